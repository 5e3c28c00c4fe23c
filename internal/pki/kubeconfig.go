package pki

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/atomicwriter"
	clientcmdv1 "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"
)

// Kubeconfig is what a client needs to reach the API as someone.
type Kubeconfig struct {
	Server    string // https://127.0.0.1:6443
	Authority Pair
	Client    Pair
	User      string // name of the user's entry
}

// Write stores the kubeconfig at path, whole or not at all.
func (k Kubeconfig) Write(path string, mode fs.FileMode) error {
	data, err := k.encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make directory of kubeconfig: %w", err)
	}
	if err := atomicwriter.WriteFile(path, data, mode); err != nil {
		return fmt.Errorf("write kubeconfig (choose another place with --write-kubeconfig): %w", err)
	}
	return nil
}

func (k Kubeconfig) encode() ([]byte, error) {
	key, err := k.Client.KeyPEM()
	if err != nil {
		return nil, err
	}
	const name = "skiff"
	data, err := yaml.Marshal(clientcmdv1.Config{
		Kind:       "Config",
		APIVersion: "v1",
		Clusters: []clientcmdv1.NamedCluster{{Name: name, Cluster: clientcmdv1.Cluster{
			Server:                   k.Server,
			CertificateAuthorityData: k.Authority.CertificatePEM(),
		}}},
		AuthInfos: []clientcmdv1.NamedAuthInfo{{Name: k.User, AuthInfo: clientcmdv1.AuthInfo{
			ClientCertificateData: k.Client.CertificatePEM(),
			ClientKeyData:         key,
		}}},
		Contexts: []clientcmdv1.NamedContext{{Name: name, Context: clientcmdv1.Context{
			Cluster: name, AuthInfo: k.User,
		}}},
		CurrentContext: name,
	})
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return data, nil
}
