package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

const (
	manifestEntry = "manifest.json"
	storeEntry    = "store.db"
	serverEntries = "server/"
	sumsEntry     = "SHA256SUMS"

	maxSmallEntry = 1 << 20 // bytes of the manifest and of the sums
)

var errDamaged = errors.New("the snapshot is damaged")

// ErrPassphrase is the error for an encrypted snapshot without its passphrase.
var ErrPassphrase = errors.New("the snapshot is encrypted: name the file of its passphrase with --passphrase-file")

// workFactor is scrypt's, as a power of two: 32 MiB of memory and a tenth of a
// second, for machines that have not much more of either.
const workFactor = 15

// archiver writes a snapshot's entries.
type archiver struct {
	tar     *tar.Writer
	closers []io.Closer // from the inside out
	sums    bytes.Buffer
	when    time.Time
}

func newArchiver(w io.Writer, compress bool, passphrase string, when time.Time) (*archiver, error) {
	a := &archiver{when: when}
	if passphrase != "" {
		recipient, err := age.NewScryptRecipient(passphrase)
		if err != nil {
			return nil, err
		}
		recipient.SetWorkFactor(workFactor)
		sealed, err := age.Encrypt(w, recipient)
		if err != nil {
			return nil, err
		}
		w, a.closers = sealed, append(a.closers, sealed)
	}
	if compress {
		packed, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20))
		if err != nil {
			return nil, err
		}
		w, a.closers = packed, append([]io.Closer{packed}, a.closers...)
	}
	a.tar = tar.NewWriter(w)
	a.closers = append([]io.Closer{a.tar}, a.closers...)
	return a, nil
}

// manifest writes the first entry.
func (a *archiver) manifest(m Manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	return a.entry(manifestEntry, int64(len(data)), bytes.NewReader(data))
}

// entry writes an entry of exactly size bytes.
func (a *archiver) entry(name string, size int64, content io.Reader) error {
	sum := sha256.New()
	if err := a.write(name, size, io.TeeReader(content, sum)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	fmt.Fprintf(&a.sums, "%x  %s\n", sum.Sum(nil), name)
	return nil
}

func (a *archiver) write(name string, size int64, content io.Reader) error {
	err := a.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: a.when.Truncate(time.Second),
	})
	if err != nil {
		return err
	}
	n, err := io.Copy(a.tar, content)
	if err == nil && n != size {
		err = fmt.Errorf("it has %d bytes, expected %d: it changed meanwhile", n, size)
	}
	return err
}

// close writes the sums and ends the file.
func (a *archiver) close() error {
	if err := a.write(sumsEntry, int64(a.sums.Len()), &a.sums); err != nil {
		return fmt.Errorf("write %s: %w", sumsEntry, err)
	}
	return a.abandon()
}

// abandon releases what the archiver holds.
func (a *archiver) abandon() error {
	var errs []error
	for _, c := range a.closers {
		errs = append(errs, c.Close())
	}
	a.closers = nil
	return errors.Join(errs...)
}

// Inspected is what a whole snapshot says of itself and what it is found to be.
type Inspected struct {
	Manifest
	Bytes     int64 `json:"bytes"`
	Encrypted bool  `json:"encrypted"`
}

// Inspect reads all of a snapshot and returns what it holds once everything in
// it is found as it was written.
func Inspect(ctx context.Context, r io.Reader, passphrase string) (Inspected, error) {
	counted := &counter{r: r}
	buffered := bufio.NewReader(counted)
	start, _ := buffered.Peek(len(ageMagic)) // what is too short is found out below
	m, err := read(ctx, buffered, passphrase, func(_ Manifest, _ string, content io.Reader) error {
		_, err := io.Copy(io.Discard, content)
		return err
	})
	if err != nil {
		return Inspected{}, err
	}
	return Inspected{Manifest: m, Bytes: counted.bytes, Encrypted: string(start) == ageMagic}, nil
}

// Store writes the store of a snapshot to w. Unless it returns without an error
// what was written is of no use.
func Store(ctx context.Context, r io.Reader, passphrase string, w io.Writer) error {
	_, err := read(ctx, r, passphrase, func(_ Manifest, name string, content io.Reader) error {
		to := io.Discard
		if name == storeEntry {
			to = w
		}
		_, err := io.Copy(to, content)
		return err
	})
	return err
}

// counter counts what is read.
type counter struct {
	r     io.Reader
	bytes int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.bytes += int64(n)
	return n, err
}

// read hands the entries between manifest and sums to each, in order, and
// verifies the whole. Until it returns without an error nothing that each was
// given can be trusted.
func read(ctx context.Context, r io.Reader, passphrase string, each func(m Manifest, name string, content io.Reader) error) (Manifest, error) {
	raw := &failing{r: &contextReader{ctx, r}}
	plain, release, err := unwrap(raw, passphrase)
	if raw.err != nil {
		return Manifest{}, fmt.Errorf("read the snapshot: %w", raw.err)
	}
	if err != nil {
		return Manifest{}, err
	}
	defer release()
	u := &unarchiver{tar: tar.NewReader(plain), sums: map[string]hash.Hash{}}
	u.each = func(name string, content io.Reader) error {
		watched := &failing{r: content}
		err := each(u.manifest, name, watched)
		if err != nil && watched.err == nil {
			u.refused = err
		}
		return err
	}
	err = u.run()
	if err == nil {
		_, err = io.Copy(io.Discard, plain) // the streams have checksums at their ends
	}
	switch {
	case err == nil:
		return u.manifest, nil
	case raw.err != nil:
		return Manifest{}, fmt.Errorf("read the snapshot: %w", raw.err)
	case u.refused != nil:
		return Manifest{}, u.refused
	case errors.Is(err, errDamaged):
		return Manifest{}, err
	}
	return Manifest{}, fmt.Errorf("%w: %v", errDamaged, err)
}

// failing remembers an error of a reader.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// unwrap decrypts and decompresses, as the first bytes tell.
func unwrap(r io.Reader, passphrase string) (plain io.Reader, release func(), err error) {
	buffered := bufio.NewReader(r)
	if start, _ := buffered.Peek(len(ageMagic)); string(start) == ageMagic {
		if passphrase == "" {
			return nil, nil, ErrPassphrase
		}
		identity, err := age.NewScryptIdentity(passphrase)
		if err != nil {
			return nil, nil, err
		}
		opened, err := age.Decrypt(buffered, identity)
		var other *age.NoIdentityMatchError
		if errors.As(err, &other) {
			return nil, nil, errors.New("the passphrase is not the one that the snapshot was encrypted with")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %v", errDamaged, err)
		}
		buffered = bufio.NewReader(opened)
	}
	start, err := buffered.Peek(len(zstdMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("%w: %v", errDamaged, err)
	}
	if string(start) != zstdMagic {
		return buffered, func() {}, nil
	}
	unpacked, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %v", errDamaged, err)
	}
	return unpacked, unpacked.Close, nil
}

const (
	ageMagic  = "age-encryption.org/v1\n"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// unarchiver reads a snapshot's entries.
type unarchiver struct {
	tar      *tar.Reader
	each     func(name string, content io.Reader) error
	refused  error // of each, and no fault of the snapshot
	manifest Manifest
	order    []string
	sums     map[string]hash.Hash
}

func (u *unarchiver) run() error {
	for {
		header, err := u.tar.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: it ends before its checksums", errDamaged)
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			return fmt.Errorf("%w: %q is not a plain file", errDamaged, header.Name)
		}
		if (len(u.order) == 0) != (header.Name == manifestEntry) {
			return fmt.Errorf("%w: it begins with %q, expected %s", errDamaged, header.Name, manifestEntry)
		}
		if header.Name == sumsEntry {
			return u.verify()
		}
		if err := u.entry(header.Name); err != nil {
			return err
		}
	}
}

// entry takes one entry and remembers its sum.
func (u *unarchiver) entry(name string) error {
	if u.sums[name] != nil {
		return fmt.Errorf("%w: %q is in it twice", errDamaged, name)
	}
	sum := sha256.New()
	u.order, u.sums[name] = append(u.order, name), sum
	content := io.TeeReader(u.tar, sum)
	if name == manifestEntry {
		data, err := io.ReadAll(io.LimitReader(content, maxSmallEntry))
		if err == nil {
			u.manifest, err = decodeManifest(data)
		}
		return err
	}
	if err := u.each(name, content); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, content)
	return err
}

// verify compares the sums, and that nothing follows.
func (u *unarchiver) verify() error {
	written, err := io.ReadAll(io.LimitReader(u.tar, maxSmallEntry))
	if err != nil {
		return err
	}
	var want strings.Builder
	for _, name := range u.order {
		fmt.Fprintf(&want, "%x  %s\n", u.sums[name].Sum(nil), name)
	}
	if string(written) != want.String() {
		return fmt.Errorf("%w: its contents do not have the checksums it was written with", errDamaged)
	}
	if u.sums[storeEntry] == nil {
		return fmt.Errorf("%w: it has no store", errDamaged)
	}
	if _, err := u.tar.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows its checksums", errDamaged)
	}
	return nil
}

// contextReader ends reading with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
