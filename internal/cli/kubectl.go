package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/embed"
	"github.com/skiff-sh/skiff/internal/config"
)

func newKubectl() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [arguments]",
		Short: "Run the carried kubectl against this machine's cluster",
		Long: `Kubectl becomes the kubectl that this executable carries, unpacked once. It uses
KUBECONFIG or --kubeconfig where given, and else the kubeconfig that skiff server
wrote. All arguments are kubectl's own.`,
		Example: `  skiff kubectl get nodes
  skiff kubectl apply -f app.yaml`,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := unpackKubectl()
			if err != nil {
				return err
			}
			env := os.Environ()
			if kubeconfig := writtenKubeconfig(); os.Getenv("KUBECONFIG") == "" && kubeconfig != "" {
				env = append(env, "KUBECONFIG="+kubeconfig)
			}
			err = unix.Exec(path, append([]string{"kubectl"}, args...), env)
			return fmt.Errorf("run %s: %w", path, err)
		},
	}
}

// unpackKubectl unpacks kubectl beside the other helpers, or in the user's
// cache where that is not writable.
func unpackKubectl() (string, error) {
	path, err := embed.Unpack(filepath.Join(dataDir(), "agent", "bin"), embed.Kubectl)
	if err == nil || !errors.Is(err, os.ErrPermission) {
		return path, err
	}
	cache, cacheErr := os.UserCacheDir()
	if cacheErr != nil {
		return "", err
	}
	return embed.Unpack(filepath.Join(cache, "skiff"), embed.Kubectl)
}

// writtenKubeconfig is where the server of this machine writes its kubeconfig,
// or "" if there is none.
func writtenKubeconfig() string {
	path := serverSettings().WriteKubeconfig
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func dataDir() string { return serverSettings().DataDir }

// serverSettings are those of this machine's server as far as file and
// environment tell them. Mistakes in them are for skiff server to report.
func serverSettings() config.Server {
	settings := config.DefaultServer()
	_ = config.Load(settings.Settings(), config.Sources{
		File: os.Getenv(config.EnvironmentPrefix + "CONFIG"), Environment: os.Environ(),
	})
	_ = settings.Validate()
	return settings
}
