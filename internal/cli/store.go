package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/server"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

func newStore() *cobra.Command {
	directory := dataDir()
	c := &cobra.Command{
		Use:   "store",
		Short: "Check the cluster's store, and save what is intact",
		Long: `Store works on the one file that holds the cluster's objects. It reads that file
by itself, so it goes on where a server refuses to start. To go back to a
snapshot instead, see skiff snapshot.`,
		Example: `  skiff store check
  skiff store salvage`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.PersistentFlags().StringVar(&directory, "data-dir", directory, "where that skiff keeps everything")
	c.AddCommand(newStoreCheck(&directory), newStoreSalvage(&directory))
	return c
}

func newStoreCheck(directory *string) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Find every damaged record",
		Long: `Check reads the whole store and names every record that is not as it was written,
and whatever else is wrong. While a server runs it checks a consistent copy of
its store. Given a file, such as a copy, it checks that one.
The exit code is 0 when the store is whole, and 1 when it is damaged or could not
be checked. Nothing is changed.`,
		Example: `  skiff store check
  skiff store check -o json
  skiff store check /mnt/card/var/lib/skiff/server/store.db`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("output %q: only json is possible", output)
			}
			report, err := checkStore(c.Context(), config.NewHost(*directory), args)
			if err != nil {
				return needsRoot(err)
			}
			if err := report.print(c.OutOrStdout(), output == "json"); err != nil {
				return err
			}
			return report.verdict()
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json, for programs")
	return c
}

func newStoreSalvage(directory *string) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "salvage",
		Short: "Make a new store of what is intact in a damaged one",
		Long: `Salvage copies every record that is intact into a new store, puts that in the
place of the damaged one, and names what is lost. The damaged file stays beside
it as store.db.damaged-TIME. No server may run on the data directory meanwhile.
With --output the new store goes there, and nothing else is changed.`,
		Example: `  skiff store salvage
  skiff store salvage --output /tmp/store.db`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return needsRoot(salvageStore(c.Context(), config.NewHost(*directory).StorePath(), output, c.OutOrStdout()))
		},
	}
	c.Flags().StringVar(&output, "output", "", "file for the new store, which must not exist")
	return c
}

// storeReport is what a check found.
type storeReport struct {
	File     string         `json:"file"`
	Running  bool           `json:"running"` // it is a copy of a running server's store
	Whole    bool           `json:"whole"`
	Damages  []storeDamage  `json:"damages"`
	Revision store.Revision `json:"revision"`
	Format   byte           `json:"format"`
	Objects  map[string]int `json:"objects"`
	Bytes    int64          `json:"bytes"`
	Free     int64          `json:"freeBytes"`
	Clean    bool           `json:"stoppedCleanly"`
}

type storeDamage struct {
	Kind   string `json:"kind,omitempty"`
	Name   string `json:"name,omitempty"`
	Reason string `json:"reason"`
}

// checkStore checks the file that is named, or the store of a data directory.
func checkStore(ctx context.Context, host config.Host, args []string) (storeReport, error) {
	if len(args) > 0 {
		return checkFile(ctx, args[0])
	}
	report, err := checkFile(ctx, host.StorePath())
	var locked *bolt.LockedError
	if !errors.As(err, &locked) {
		return report, err
	}
	// The copy has no name, so that it is gone whatever happens to us.
	f, err := os.CreateTemp(filepath.Dir(host.StorePath()), "check-")
	if err != nil {
		return storeReport{}, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return storeReport{}, err
	}
	if err := server.Copy(ctx, host, f); err != nil {
		return storeReport{}, err
	}
	report, err = checkFile(ctx, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	report.File, report.Running = host.StorePath(), true
	return report, err
}

func checkFile(ctx context.Context, path string) (storeReport, error) {
	report := storeReport{File: path, Damages: []storeDamage{}}
	found, err := bolt.Check(ctx, path, func(d store.Damage) {
		report.Damages = append(report.Damages, storeDamage{d.Key.Bucket, d.Key.Name, d.Reason})
	})
	report.Whole = len(report.Damages) == 0
	report.Revision, report.Format, report.Objects = found.Revision, found.Format, found.Buckets
	report.Bytes, report.Free, report.Clean = found.FileBytes, found.FreeBytes, found.Clean
	return report, err
}

func (r *storeReport) print(out io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	for _, d := range r.Damages {
		fmt.Fprintln(out, store.Damage{Key: store.Key{Bucket: d.Kind, Name: d.Name}, Reason: d.Reason})
	}
	if err := printObjects(out, r.Objects); err != nil {
		return err
	}
	stopped := "stopped cleanly"
	switch {
	case r.Running:
		stopped = "in use by a server"
	case !r.Clean:
		stopped = "not stopped cleanly"
	}
	_, err := fmt.Fprintf(out, "revision %d, format %d, %s, of which %s are free, %s\n",
		r.Revision, r.Format, humanize.Bytes(uint64(r.Bytes)), humanize.Bytes(uint64(r.Free)), stopped)
	if err == nil && r.Whole {
		_, err = fmt.Fprintln(out, "the store is whole")
	}
	return err
}

// verdict is the error that a damaged store ends the command with.
func (r *storeReport) verdict() error {
	if r.Whole {
		return nil
	}
	return fmt.Errorf("%w (%d findings); go back with `skiff snapshot restore`, or keep what is intact with `skiff store salvage`",
		store.ErrDamaged, len(r.Damages))
}

func printObjects(out io.Writer, objects map[string]int) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "KIND\tOBJECTS")
	for _, kind := range slices.Sorted(maps.Keys(objects)) {
		fmt.Fprintf(w, "%s\t%d\n", kind, objects[kind])
	}
	return w.Flush()
}

func salvageStore(ctx context.Context, path, output string, out io.Writer) error {
	lost := 0
	tell := func(d store.Damage) {
		lost++
		fmt.Fprintln(out, d)
	}
	kept := path
	var found format.Contents
	var err error
	if output != "" {
		found, err = bolt.Salvage(ctx, path, output, tell)
	} else {
		kept, found, err = bolt.SalvageInPlace(ctx, path, tell)
		output = path
	}
	if err != nil {
		return err
	}
	if err := printObjects(out, found.Buckets); err != nil {
		return err
	}
	if lost == 0 {
		fmt.Fprintln(out, "nothing was damaged")
	}
	_, err = fmt.Fprintf(out, "%s has what is intact; %s is as it was\n", output, kept)
	return err
}

// needsRoot tells who may read the store.
func needsRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return fmt.Errorf("%w; the store belongs to root: run it with sudo", err)
	}
	return err
}
