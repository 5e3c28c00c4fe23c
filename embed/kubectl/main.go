// Command kubectl is the kubectl that the skiff executable carries and runs
// as `skiff kubectl`: upstream's command tree under a main of our own, so that
// it is built with skiff and needs no download. It never adds to or changes
// what upstream's kubectl does.
package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"

	// Logins of managed clusters' kubeconfigs, as in upstream's kubectl.
	_ "k8s.io/client-go/plugin/pkg/client/auth"
)

func main() {
	// CheckErr prints the error the way kubectl's users know it and exits.
	util.CheckErr(cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()))
}
