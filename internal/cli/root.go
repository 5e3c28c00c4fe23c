// Package cli is skiff's command line: one file per subcommand.
//
// New returns the whole command; each constructor beside it returns one
// subcommand. The invariant: a subcommand parses, validates and hands over, and
// an error that reaches the caller says what to do next. The package never
// decides what a server or a node does.
package cli

import (
	"io"

	"github.com/spf13/cobra"
)

// New returns the skiff command, which prints what it was asked for to out.
func New(out io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "skiff",
		Short: "Kubernetes for one box and its neighbours",
		Long: `Skiff is a whole Kubernetes cluster in one executable.

"skiff server" runs the control plane and a node on this machine. "skiff agent"
makes another machine a node of it. "skiff kubectl" talks to it. Everything is kept
below one data directory.`,
		Example: `  skiff server
  skiff kubectl get pods -A -w
  skiff hello | skiff kubectl apply -f -`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(out)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	root.AddCommand(
		newServer(),
		newAgent(),
		newKubectl(),
		newHello(),
		newImages(),
		newToken(),
		newSnapshot(),
		newExport(),
		newStore(),
		newLeave(),
		newKillall(),
		newHollow(),
		newVersion(),
	)
	return root
}
