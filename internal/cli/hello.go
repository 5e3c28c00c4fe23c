package cli

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skiff-sh/skiff/embed"
)

//go:embed hello.yaml
var helloManifest string

func newHello() *cobra.Command {
	return &cobra.Command{
		Use:   "hello",
		Short: "Print the manifest of the hello application",
		Long: `Hello prints a Deployment with two replicas and a Service. Its image is carried by
this executable, so that it runs with no network at all. The Service answers with
the name of the Pod and of the node.`,
		Example: `  skiff hello | skiff kubectl apply -f -`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(c.OutOrStdout(), strings.ReplaceAll(helloManifest, "IMAGE", embed.HelloImage))
			return err
		},
	}
}
