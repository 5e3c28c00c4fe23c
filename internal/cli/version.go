package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/skiff-sh/skiff/embed"
	"github.com/skiff-sh/skiff/internal/version"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of skiff and of what it carries",
		Long: `Version prints skiff's own version, the Kubernetes release whose API it speaks,
and the versions of the programs and of the runtime that it carries. It asks no
server. Nodes and the API report the same version to kubectl.`,
		Example: "  skiff version",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "skiff\t%s (%s)\n", version.Number(), version.Commit())
			fmt.Fprintf(w, "kubernetes\t%s\n", version.Kubernetes)
			fmt.Fprintf(w, "containerd\t%s\n", version.Module("github.com/containerd/containerd/v2"))
			for _, helper := range []string{embed.Runc, embed.Kubectl} {
				fmt.Fprintf(w, "%s\t%s\n", helper, cmp.Or(embed.Version(helper), "not carried: run make"))
			}
			fmt.Fprintf(w, "go\t%s\n", runtime.Version())
			fmt.Fprintf(w, "platform\t%s/%s\n", runtime.GOOS, runtime.GOARCH)
			return w.Flush()
		},
	}
}
