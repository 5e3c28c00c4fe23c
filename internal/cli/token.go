package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/server"
)

func newToken() *cobra.Command {
	directory := dataDir()
	host := func() config.Host { return config.NewHost(directory) }
	c := &cobra.Command{
		Use:   "token",
		Short: "Make, list and remove the tokens that machines join with",
		Long: `Token works on the bootstrap tokens of this machine's server, which must be
running. A token says whom to trust and lets a machine ask for the certificate of a
node; once it has that, the token does not matter to it any more. Beside these is
the server's own token, which never expires: DATA-DIR/server/token.`,
		Example: `  skiff token create
  skiff token create --once --ttl 1h --print-join
  skiff token ls`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.PersistentFlags().StringVar(&directory, "data-dir", directory, "where that skiff keeps everything")
	c.AddCommand(newTokenCreate(host), newTokenLs(host), newTokenRm(host))
	return c
}

func newTokenCreate(host func() config.Host) *cobra.Command {
	var wish server.TokenWish
	var printJoin bool
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a bootstrap token",
		Long: `Create prints a new token, complete as a joining machine needs it. It is shown this
once. A token that is made with --once belongs to the machine that joins with it
first: that one may come again, as after a crash, but no other.`,
		Example: `  skiff token create
  skiff token create --once --description "the box in the barn"
  skiff token create --ttl 0 --print-join`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if wish.TTL < 0 {
				return fmt.Errorf("--ttl %s: expected a time such as 24h, or 0 for a token that does not expire", wish.TTL)
			}
			made, err := server.CreateToken(c.Context(), host(), wish)
			if err != nil {
				return err
			}
			return printToken(c.OutOrStdout(), c.ErrOrStderr(), made, printJoin)
		},
	}
	c.Flags().SortFlags = false
	c.Flags().DurationVar(&wish.TTL, "ttl", 24*time.Hour, "how long it may be used; 0: for ever")
	c.Flags().BoolVar(&wish.Once, "once", false, "let one machine join with it, no second")
	c.Flags().StringVar(&wish.Description, "description", "", "what it is for")
	c.Flags().BoolVar(&printJoin, "print-join", false, "print the whole command for the other machine")
	return c
}

// printToken prints the token for programs and what to do with it for people.
func printToken(out, people io.Writer, made server.NewToken, printJoin bool) error {
	command := fmt.Sprintf("skiff agent --server %s --token %s", made.Server, made.Token)
	if printJoin {
		_, err := fmt.Fprintln(out, command)
		return err
	}
	until := "It does not expire."
	if made.Expires != nil {
		until = "It expires on " + made.Expires.Format(time.RFC3339) + "."
	}
	fmt.Fprintf(people, "Join with: skiff agent --server %s --token TOKEN\n%s\n", made.Server, until)
	_, err := fmt.Fprintln(out, made.Token)
	return err
}

func newTokenLs(host func() config.Host) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the bootstrap tokens",
		Long: `Ls prints the tokens by their IDs, which are no secrets. A token that expired is
gone within a moment. One that works once stays for up to a day after that, with
the name of the node that joined with it.`,
		Example: `  skiff token ls
  skiff token ls -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := server.ListTokens(c.Context(), host())
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), list)
			}
			return printTokens(c.OutOrStdout(), list, time.Now())
		},
	}
	outputFlag(c, &output)
	return c
}

func printTokens(out io.Writer, list []server.Token, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "TOKEN\tTTL\tEXPIRES\tUSAGES\tJOINS\tDESCRIPTION")
	for _, t := range list {
		ttl, expires := "<forever>", "<never>"
		if t.Expires != nil {
			ttl, expires = duration.HumanDuration(t.Expires.Sub(now)), t.Expires.Format(time.RFC3339)
		}
		joins := "many"
		switch {
		case t.UsedBy != "":
			joins = "used by " + t.UsedBy
		case t.Once:
			joins = "once"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, ttl, expires, orNone(strings.Join(t.Usages, ",")), joins, orNone(t.Description))
	}
	return w.Flush()
}

func orNone(text string) string {
	if text == "" {
		return "<none>"
	}
	return text
}

func newTokenRm(host func() config.Host) *cobra.Command {
	return &cobra.Command{
		Use:     "rm TOKEN...",
		Aliases: []string{"delete"},
		Short:   "Remove bootstrap tokens",
		Long: `Rm removes tokens, named by their IDs or whole. Machines that joined with them stay
in the cluster: kubectl delete node removes one. All are tried; what could not be
removed is told at the end.`,
		Example: "  skiff token rm abcdef",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var errs []error
			for _, arg := range args {
				errs = append(errs, removeToken(c, host(), arg))
			}
			return errors.Join(errs...)
		},
	}
}

func removeToken(c *cobra.Command, host config.Host, arg string) error {
	id := arg
	if !pki.ValidTokenID(id) {
		t, err := pki.ParseToken(arg)
		if err != nil || t.ID == "" {
			return fmt.Errorf("%q is not a bootstrap token: name it by its ID, see skiff token ls", arg)
		}
		id = t.ID
	}
	if err := server.RemoveToken(c.Context(), host, id); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "removed %s\n", id)
	return err
}
