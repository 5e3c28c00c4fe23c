package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/server"
	"github.com/skiff-sh/skiff/internal/snapshot"
)

// snapshotKeys are the settings that the snapshot commands look at, beside
// those of the bucket.
var snapshotKeys = []string{"data-dir", "node-name", "etcd-snapshot-dir", "etcd-snapshot-compress", "snapshot-passphrase-file"}

func newSnapshot() *cobra.Command {
	c := &cobra.Command{
		Use:   "snapshot",
		Short: "Save the cluster to a file, and bring it back",
		Long: `Snapshot works on copies of the cluster's store, in the snapshot directory of this
machine and in the bucket of the etcd-s3 settings where they name one. Saving goes
on beside a running server and its writers. Restoring needs it stopped.

Settings come from the server's file, the environment and flags. What k3s calls
--s3-bucket, --dir or --snapshot-retention is understood, too.`,
		Example: `  skiff snapshot save
  skiff snapshot save --full --passphrase-file /root/passphrase
  skiff snapshot ls
  skiff snapshot restore on-demand-box-1764000000`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newSnapshotSave(), newSnapshotLs(), newSnapshotRm(), newSnapshotPrune(), newSnapshotRestore(), newSnapshotInspect())
	return c
}

// snapshots are the settings of one snapshot command.
type snapshots struct {
	settings config.Server
	file     string
}

// register adds the settings' flags, under k3s's short names, too.
func (s *snapshots) register(c *cobra.Command, keys ...string) {
	s.settings = config.DefaultServer()
	var table []config.Setting
	for _, setting := range s.settings.Settings() {
		if slices.Contains(snapshotKeys, setting.Key) || slices.Contains(keys, setting.Key) || strings.HasPrefix(setting.Key, "etcd-s3") && setting.Key != "etcd-s3-retention" {
			table = append(table, setting)
		}
	}
	c.Flags().SortFlags = false
	c.Flags().StringVar(&s.file, "config", "", "the server's settings file (default "+config.DefaultFile+") ["+config.EnvironmentPrefix+"CONFIG]")
	config.RegisterFlags(c.Flags(), table)
	c.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch {
		case name == "s3", strings.HasPrefix(name, "s3-"), name == "snapshot-compress", name == "snapshot-retention":
			name = "etcd-" + name
		case name == "dir":
			name = "etcd-snapshot-dir"
		case name == "passphrase-file":
			name = "snapshot-passphrase-file"
		}
		return pflag.NormalizedName(name)
	})
}

// load reads the settings and returns the places, the bucket's being nil where
// there is none.
func (s *snapshots) load(c *cobra.Command) (snapshot.Directory, *snapshot.Bucket, error) {
	if s.file == "" {
		s.file = os.Getenv(config.EnvironmentPrefix + "CONFIG")
	}
	err := config.Load(s.settings.Settings(), config.Sources{File: s.file, Environment: os.Environ(), Flags: c.Flags()})
	if err = errors.Join(err, s.settings.Validate()); err != nil {
		return snapshot.Directory{}, nil, fmt.Errorf("settings:\n%w", err)
	}
	directory := snapshot.NewDirectory(s.settings.Snapshots.Dir)
	if !s.settings.Snapshots.S3.Enabled {
		return directory, nil, nil
	}
	bucket, err := snapshot.NewBucket(s.settings.Snapshots.S3)
	return directory, bucket, err
}

// places are where snapshots are, the bucket where there is one.
func places(directory snapshot.Directory, bucket *snapshot.Bucket) []snapshot.Place {
	if bucket == nil {
		return []snapshot.Place{directory}
	}
	return []snapshot.Place{directory, bucket}
}

// interruptible ends with the person's patience, so that what is half done is
// removed.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
}

func newSnapshotSave() *cobra.Command {
	s := &snapshots{}
	var name string
	var full bool
	c := &cobra.Command{
		Use:   "save",
		Short: "Save a snapshot now",
		Long: `Save writes all objects to one file, from the running server or, when none runs,
from the store as it is. The file is written whole or not at all, and read back
before it counts. For a moment there must be room for a copy of the store, too.

A snapshot has the cluster's Secrets in it. One that is --full has the certificate
authority, the keys and the tokens as well, so that it alone brings the cluster of
a dead machine back on another. A passphrase encrypts it: the first line of a file,
or what SKIFF_SNAPSHOT_PASSPHRASE holds.`,
		Example: `  skiff snapshot save
  skiff snapshot save --name before-upgrade
  skiff snapshot save --full --passphrase-file /root/passphrase --s3 --s3-bucket backups`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			return s.save(ctx, c, name, full)
		},
	}
	s.register(c)
	c.Flags().StringVar(&name, "name", "on-demand", "what the snapshot's name begins with")
	c.Flags().BoolVar(&full, "full", false, "put in the cluster's keys and tokens, too")
	return c
}

func (s *snapshots) save(ctx context.Context, c *cobra.Command, name string, full bool) error {
	directory, bucket, err := s.load(c)
	if err != nil {
		return err
	}
	if name == "" || strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
		return fmt.Errorf("--name %q: expected the beginning of a file's name, such as on-demand", name)
	}
	passphrase, err := snapshot.Passphrase(s.settings.Snapshots.PassphraseFile)
	if err != nil {
		return err
	}
	host := config.NewHost(s.settings.DataDir)
	if err := server.FindStore(host); err != nil {
		return err
	}
	file, err := directory.Save(ctx, name, snapshot.Source{
		Copy:   func(ctx context.Context, w io.Writer) error { return server.Copy(ctx, host, w) },
		Server: host.ServerDir(), Node: s.settings.NodeName,
		Full: full, Compress: s.settings.Snapshots.Compress, Passphrase: passphrase,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "saved %s\n", filepath.Join(s.settings.Snapshots.Dir, file.Name))
	if full && passphrase == "" {
		fmt.Fprintln(c.ErrOrStderr(), "It has the cluster's keys and is not encrypted: whoever can read it has the cluster.")
	}
	if bucket == nil {
		return nil
	}
	sent, err := bucket.Put(ctx, filepath.Join(s.settings.Snapshots.Dir, file.Name))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "copied to %s\n", sent.Location)
	return nil
}

func newSnapshotLs() *cobra.Command {
	s := &snapshots{}
	var output string
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list", "l"},
		Short:   "List the snapshots",
		Long: `Ls prints the snapshots of the snapshot directory and of the bucket, the newest
last. Revision and objects are what the file says of itself; inspect verifies it.
Those of files that are encrypted or in the bucket are not shown.`,
		Example: `  skiff snapshot ls
  skiff snapshot ls -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			files, err := s.list(c)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), files)
			}
			return printSnapshots(c.OutOrStdout(), files)
		},
	}
	s.register(c)
	outputFlag(c, &output)
	return c
}

// outputFlag adds -o, which knows one form beside that for people.
func outputFlag(c *cobra.Command, output *string) {
	c.Flags().StringVarP(output, "output", "o", "", "json, for programs")
	c.PreRunE = func(*cobra.Command, []string) error {
		if *output != "" && *output != "json" {
			return fmt.Errorf("--output %q: expected json, or nothing", *output)
		}
		return nil
	}
}

func (s *snapshots) list(c *cobra.Command) ([]snapshot.File, error) {
	directory, bucket, err := s.load(c)
	if err != nil {
		return nil, err
	}
	files := []snapshot.File{} // none is a list, too
	for _, place := range places(directory, bucket) {
		more, err := place.List(c.Context())
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, nil
}

func printSnapshots(out io.Writer, files []snapshot.File) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tSIZE\tCREATED\tREVISION\tOBJECTS\tFULL\tLOCATION")
	for _, f := range files {
		revision, objects, full := "", "", ""
		if m := f.Manifest; m != nil {
			revision, objects, full = fmt.Sprint(m.Revision), fmt.Sprint(total(m.Objects)), fmt.Sprint(m.Full)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, humanize.Bytes(uint64(f.Bytes)),
			f.Created.Format(time.RFC3339), revision, objects, full, f.Location)
	}
	return w.Flush()
}

func total(objects map[string]int) int {
	sum := 0
	for _, n := range objects {
		sum += n
	}
	return sum
}

func printJSON(out io.Writer, value any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

func newSnapshotRm() *cobra.Command {
	s := &snapshots{}
	c := &cobra.Command{
		Use:     "rm NAME...",
		Aliases: []string{"delete"},
		Short:   "Remove snapshots",
		Long: `Rm removes the named snapshots from the snapshot directory, and from the bucket
where the settings name one. A name may lack its endings. All names are tried; what
could not be removed is told at the end.`,
		Example: "  skiff snapshot rm on-demand-box-1764000000",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			directory, bucket, err := s.load(c)
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				errs = append(errs, removeSnapshot(c, directory, bucket, name))
			}
			return errors.Join(errs...)
		},
	}
	s.register(c)
	return c
}

// removeSnapshot removes a snapshot wherever it is. It must be somewhere.
func removeSnapshot(c *cobra.Command, directory snapshot.Directory, bucket *snapshot.Bucket, name string) error {
	err := directory.Remove(c.Context(), name)
	if err == nil {
		fmt.Fprintf(c.OutOrStdout(), "removed %s\n", name)
	}
	if bucket == nil || err != nil && !errors.Is(err, snapshot.ErrUnknown) {
		return err
	}
	away := bucket.Remove(c.Context(), name)
	if away == nil {
		fmt.Fprintf(c.OutOrStdout(), "removed %s from the bucket\n", name)
		return nil
	}
	if err == nil && errors.Is(away, snapshot.ErrUnknown) {
		return nil
	}
	return away
}

func newSnapshotPrune() *cobra.Command {
	s := &snapshots{}
	var name string
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove the snapshots that are too many",
		Long: `Prune keeps the newest snapshots of this node whose names begin alike, and removes
the others, in the bucket as well where the settings name one. Scheduled snapshots
are pruned by the server itself. The newest are those with the highest numbers in
their names, whatever the clock says.`,
		Example: "  skiff snapshot prune --name on-demand --snapshot-retention 3",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			directory, bucket, err := s.load(c)
			if err != nil {
				return err
			}
			for _, place := range places(directory, bucket) {
				removed, err := snapshot.Prune(c.Context(), place, snapshot.Base(name, s.settings.NodeName), s.settings.Snapshots.Retention)
				for _, r := range removed {
					fmt.Fprintf(c.OutOrStdout(), "removed %s\n", r)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	s.register(c, "etcd-snapshot-retention")
	c.Flags().StringVar(&name, "name", "on-demand", "what the snapshots' names begin with")
	return c
}
