package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/export"
	"github.com/skiff-sh/skiff/internal/server"
	"github.com/skiff-sh/skiff/internal/snapshot"
)

// exports is what skiff export was asked for.
type exports struct {
	dataDir        string
	snapshot       string
	passphraseFile string
	directory      string
	selection      export.Selection
}

func newExport() *cobra.Command {
	e := exports{dataDir: dataDir()}
	c := &cobra.Command{
		Use:   "export [KIND...]",
		Short: "Write all objects as plain YAML",
		Long: `Export writes the cluster's objects as YAML documents: those of the running
server, of the store as it is when none runs, or of a snapshot. The order is always
the same: namespaces, what is in none, service accounts, then by group, kind,
namespace and name. So are the bytes as long as nothing changes, which git likes.

All objects are written, Secrets in plain text included. What belongs to this one
cluster is left out (status, managedFields, uid, resourceVersion, generation and
creationTimestamp), so that kubectl apply takes the rest elsewhere; --all-fields
keeps it. With --without-owned there are only the objects that people made.

With --directory there is a file of each object, RESOURCE/NAMESPACE/NAME.yaml, and
files of objects that are gone are removed.`,
		Example: `  skiff export > cluster.yaml
  skiff export deployments services -n default
  skiff export --without-owned --directory /srv/cluster.git
  skiff export --snapshot /mnt/usb/on-demand-box-1764000000.tar.zst`,
		RunE: func(c *cobra.Command, args []string) error { return e.run(c, args) },
	}
	c.Flags().SortFlags = false
	c.Flags().StringVar(&e.dataDir, "data-dir", e.dataDir, "where that skiff keeps everything")
	c.Flags().StringVar(&e.snapshot, "snapshot", "", "export the objects of this snapshot file")
	c.Flags().StringVar(&e.passphraseFile, "passphrase-file", "", "file whose first line decrypts that snapshot ["+snapshot.PassphraseVariable+" holds it itself]")
	c.Flags().StringVarP(&e.selection.Namespace, "namespace", "n", "", "only what is in this namespace")
	c.Flags().StringVar(&e.directory, "directory", "", "write a file of each object to this directory")
	c.Flags().BoolVar(&e.selection.WithoutOwned, "without-owned", false, "leave out what a cluster makes itself: objects with an owner, Nodes, Events, Leases, Endpoints, EndpointSlices")
	c.Flags().BoolVar(&e.selection.AllFields, "all-fields", false, "keep status, managedFields and all else that belongs to this cluster")
	return c
}

func (e exports) run(c *cobra.Command, names []string) (err error) {
	if e.selection.Kinds, err = export.Kinds(names); err != nil {
		return err
	}
	ctx, stop := interruptible(c.Context())
	defer stop()
	work, err := os.MkdirTemp("", "skiff-export-") // root's alone
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	copied := filepath.Join(work, "store.db")
	if err := e.copyStore(ctx, copied); err != nil {
		return err
	}
	objects, unknown, err := export.Read(ctx, copied, e.selection)
	if err != nil {
		return err
	}
	if len(unknown) > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "left out, since this skiff does not know them: %s\n", strings.Join(unknown, ", "))
	}
	if e.directory != "" {
		return export.Directory(e.directory, objects, e.selection)
	}
	return export.Write(c.OutOrStdout(), objects, e.selection.AllFields)
}

// copyStore writes the store to be exported to a file.
func (e exports) copyStore(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if e.snapshot == "" {
		return errors.Join(server.Copy(ctx, config.NewHost(e.dataDir), f), f.Close())
	}
	return errors.Join(e.unpack(ctx, f), f.Close())
}

// unpack takes the store out of a snapshot.
func (e exports) unpack(ctx context.Context, w io.Writer) error {
	passphrase, err := snapshot.Passphrase(e.passphraseFile)
	if err != nil {
		return err
	}
	archive, err := os.Open(e.snapshot)
	if err != nil {
		return err
	}
	defer archive.Close()
	return snapshot.Store(ctx, archive, passphrase, w)
}
