package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/node"
)

func newImages() *cobra.Command {
	directory := dataDir()
	client := func() node.LocalClient { return node.NewLocalClient(config.NewHost(directory)) }
	c := &cobra.Command{
		Use:   "images",
		Short: "Import, pull, list, pin and remove the node's images",
		Long: `Images works on the image store of this machine's node, which must be running.
Each data directory has a store of its own. Import takes OCI and docker archives,
also through a pipe, so that a machine without a network can be given images.`,
		Example: `  skiff images import app.tar
  docker save app:1 | skiff images import -
  skiff images ls`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.PersistentFlags().StringVar(&directory, "data-dir", directory, "where that skiff keeps everything")
	c.AddCommand(
		&cobra.Command{
			Use:   "import FILE|-",
			Short: "Import an OCI or docker archive",
			Long: `Import reads an archive of one or more images, from standard input if the file is
"-". It prints the names under which Pods can use them. An image of the same name
is replaced; containers that run keep what they run.`,
			Example: "  skiff images import app.tar",
			Args:    cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				return importImages(c.Context(), client(), args[0], c.InOrStdin(), c.OutOrStdout())
			},
		},
		&cobra.Command{
			Use:   "pull NAME",
			Short: "Pull an image from its registry",
			Long: `Pull fetches an image now, so that Pods that use it start without the network. The
name is completed as in a Pod's image field. What is there already is not fetched
again.`,
			Example: "  skiff images pull docker.io/library/busybox:1.36",
			Args:    cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				image, err := client().Pull(c.Context(), args[0], showReceived(c.ErrOrStderr()))
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), image.Ref)
				return err
			},
		},
		&cobra.Command{
			Use:   "ls",
			Short: "List the images that are there",
			Long: `Ls prints every image on this node, a line for each name. The identifier is the
one that Pods report as imageID. The size is that of the compressed content.`,
			Example: "  skiff images ls",
			Args:    cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				return listImages(c.Context(), client(), c.OutOrStdout())
			},
		},
		&cobra.Command{
			Use:   "rm NAME...",
			Short: "Remove images",
			Long: `Rm removes the names. What no other name and no container uses is deleted from the
disk. All names are tried; what could not be removed is told at the end.`,
			Example: "  skiff images rm app:1",
			Args:    cobra.MinimumNArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				var errs []error
				for _, name := range args {
					errs = append(errs, client().Remove(c.Context(), name))
				}
				return errors.Join(errs...)
			},
		},
		&cobra.Command{
			Use:   "pin NAME...",
			Short: "Keep images whatever room is needed",
			Long: `Pin keeps images from being removed when the disk runs full, though no Pod uses
them. Images that were imported are kept without it. Rm still removes them.`,
			Example: "  skiff images pin app:1",
			Args:    cobra.MinimumNArgs(1),
			RunE:    func(c *cobra.Command, args []string) error { return pin(c.Context(), client(), args, true) },
		},
		&cobra.Command{
			Use:   "unpin NAME...",
			Short: "Let images go when room is needed",
			Long: `Unpin takes back what pin said. An image that no Pod uses is removed when the disk
runs full, the one first that was not used for the longest time. That is then so
of images that were imported, too.`,
			Example: "  skiff images unpin app:1",
			Args:    cobra.MinimumNArgs(1),
			RunE:    func(c *cobra.Command, args []string) error { return pin(c.Context(), client(), args, false) },
		},
	)
	return c
}

func pin(ctx context.Context, client node.LocalClient, names []string, pinned bool) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, client.Pin(ctx, name, pinned))
	}
	return errors.Join(errs...)
}

// showReceived returns what tells a person at a terminal how far a pull is, on
// one line that is written over.
func showReceived(out io.Writer) func(received int64) {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func(int64) {}
	}
	return func(received int64) {
		fmt.Fprintf(out, "%s received   \r", humanize.Bytes(uint64(received)))
	}
}

func importImages(ctx context.Context, client node.LocalClient, path string, in io.Reader, out io.Writer) error {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	images, err := client.Import(ctx, in)
	if err != nil {
		return err
	}
	for _, image := range images {
		fmt.Fprintln(out, image.Ref)
	}
	return nil
}

func listImages(ctx context.Context, client node.LocalClient, out io.Writer) error {
	images, err := client.List(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tIMAGE ID\tSIZE")
	for _, image := range images {
		names := image.Names
		if len(names) == 0 {
			names = []string{image.Ref}
		}
		for _, name := range names {
			fmt.Fprintf(w, "%s\t%.19s\t%s\n", name, image.ID, humanize.Bytes(uint64(image.Size)))
		}
	}
	return w.Flush()
}
