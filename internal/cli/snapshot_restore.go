package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/snapshot"
)

func newSnapshotRestore() *cobra.Command {
	s := &snapshots{}
	c := &cobra.Command{
		Use:   "restore NAME|FILE|-",
		Short: "Make a snapshot the cluster of this machine",
		Long: `Restore reads and verifies all of a snapshot, and then puts it in the place of the
server's data in one step. What was there is kept beside it. The server must be
stopped; a crash at any moment leaves the old data or the new. Clients that were
connected list everything anew, since revisions go on far above the old ones.

A full snapshot brings the cluster's keys and tokens along, so that kubeconfigs and
nodes are still accepted, on another machine with another address, too: the
certificates for its names and addresses are made at the next start. Without them
the keys that are there stay; on a machine that has others, kubeconfigs of the old
one are refused, and its Pods need to be deleted to get new tokens.

Nodes of the old machines are still named in the API and are removed by hand:
skiff kubectl delete node OLD.`,
		Example: `  skiff snapshot restore etcd-snapshot-box-1764000000
  skiff snapshot restore /mnt/usb/on-demand-box-1764000000.tar.zst.age --passphrase-file /root/passphrase
  skiff snapshot restore on-demand-box-1764000000 --s3 --s3-bucket backups`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return s.restore(c, args[0]) },
	}
	s.register(c)
	return c
}

func (s *snapshots) restore(c *cobra.Command, name string) error {
	ctx, stop := interruptible(c.Context())
	defer stop()
	archive, passphrase, err := s.open(c, name)
	if err != nil {
		return err
	}
	defer archive.Close()
	restored, err := snapshot.Restore(ctx, config.NewHost(s.settings.DataDir).ServerDir(), archive, passphrase)
	if err != nil {
		return err
	}
	s.tell(c.OutOrStdout(), restored)
	return nil
}

// tell says what is there now, and what is to be done.
func (s *snapshots) tell(out io.Writer, r snapshot.Restored) {
	m := r.Manifest
	fmt.Fprintf(out, "restored %d objects, as of %s on %s\n", total(m.Objects), m.Taken.Format(time.RFC3339), m.Node)
	if r.Replaced != "" {
		fmt.Fprintf(out, "what was there before is in %s: remove it when nobody misses anything\n", r.Replaced)
	}
	if r.OtherAuthority {
		fmt.Fprintln(out, "the snapshot was saved with other keys: kubeconfigs of its cluster are not accepted here, and its Pods need new tokens: delete them, and they are made anew")
	}
	if m.Node != s.settings.NodeName {
		fmt.Fprintf(out, "once the server runs, remove the old machine's node: skiff kubectl delete node %s\n", m.Node)
	}
	fmt.Fprintln(out, "go on with skiff server")
}

// open opens what a person means: standard input, a file, or a snapshot of the
// directory or the bucket. The passphrase is what the settings say.
func (s *snapshots) open(c *cobra.Command, name string) (archive io.ReadCloser, passphrase string, err error) {
	directory, bucket, err := s.load(c)
	if err != nil {
		return nil, "", err
	}
	if passphrase, err = snapshot.Passphrase(s.settings.Snapshots.PassphraseFile); err != nil {
		return nil, "", err
	}
	if name == "-" {
		return io.NopCloser(c.InOrStdin()), passphrase, nil
	}
	if info, err := os.Stat(name); strings.Contains(name, "/") || err == nil && info.Mode().IsRegular() {
		archive, err = os.Open(name)
		return archive, passphrase, err
	}
	archive, err = directory.Open(c.Context(), name)
	if bucket != nil && errors.Is(err, snapshot.ErrUnknown) {
		archive, err = bucket.Open(c.Context(), name)
	}
	return archive, passphrase, err
}

func newSnapshotInspect() *cobra.Command {
	s := &snapshots{}
	var output string
	c := &cobra.Command{
		Use:   "inspect NAME|FILE|-",
		Short: "Verify a snapshot and say what it holds",
		Long: `Inspect reads all of a snapshot, compares every checksum, and prints what it holds.
It fails when anything is not as it was written. Restore verifies in the same way,
so nothing needs to be inspected first.`,
		Example: `  skiff snapshot inspect etcd-snapshot-box-1764000000
  skiff snapshot inspect /mnt/usb/on-demand-box-1764000000.tar.zst -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return s.inspect(c, args[0], output) },
	}
	s.register(c)
	outputFlag(c, &output)
	return c
}

func (s *snapshots) inspect(c *cobra.Command, name, output string) error {
	archive, passphrase, err := s.open(c, name)
	if err != nil {
		return err
	}
	defer archive.Close()
	found, err := snapshot.Inspect(c.Context(), archive, passphrase)
	if err != nil {
		return fmt.Errorf("inspect %s: %w", name, err)
	}
	if output == "json" {
		return printJSON(c.OutOrStdout(), found)
	}
	return printInspected(c.OutOrStdout(), found)
}

func printInspected(out io.Writer, found snapshot.Inspected) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	row("taken", found.Taken.Format(time.RFC3339))
	row("node", found.Node)
	row("skiff", found.Skiff)
	row("full", found.Full)
	row("encrypted", found.Encrypted)
	row("size", humanize.Bytes(uint64(found.Bytes)))
	row("store", humanize.Bytes(uint64(found.StoreBytes)))
	row("revision", found.Revision)
	row("objects", total(found.Objects))
	for _, resource := range slices.Sorted(maps.Keys(found.Objects)) {
		row("  "+resource, found.Objects[resource])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "everything is as it was written")
	return err
}
