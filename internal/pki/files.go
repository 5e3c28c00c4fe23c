package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/atomicwriter"
)

// Files is a directory of keys and certificates. What is asked of it and not
// there is made, and what no longer does is replaced.
type Files struct {
	dir   string
	clock Clock
}

// Open returns the directory, making it (0700) if needed.
func Open(dir string, clock Clock) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make certificate directory: %w", err)
	}
	return &Files{dir: dir, clock: clock}, nil
}

// Authority returns the named authority (NAME.crt and NAME.key), made on first
// use. One that is damaged, or has lost its key, is an error: replacing it would
// lock everyone out. A key alone is what is left when the first use was cut short.
func (f *Files) Authority(name, commonName string) (Pair, error) {
	p, err := f.read(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	if _, err := os.Lstat(f.path(name + ".crt")); !errors.Is(err, fs.ErrNotExist) {
		return Pair{}, damaged(f.path(name+".crt"), errors.New("its key is not there"))
	}
	p, err = NewAuthority(commonName, f.clock)
	if err != nil {
		return Pair{}, err
	}
	return p, f.write(name, p)
}

// Leaf returns the named certificate of the subject, reissued where the old one
// is missing, unreadable, made for other names, or has lived two thirds of its life.
func (f *Files) Leaf(name string, authority Pair, s Subject) (Pair, error) {
	p, err := f.read(name)
	if err == nil && p.fits(authority, s, f.clock) {
		return p, nil
	}
	return f.Reissue(name, authority, s)
}

// Fits says whether a certificate still does for the subject.
func (f *Files) Fits(p, authority Pair, s Subject) bool { return p.fits(authority, s, f.clock) }

// Reissue replaces the named certificate, and its key.
func (f *Files) Reissue(name string, authority Pair, s Subject) (Pair, error) {
	p, err := authority.Issue(s, f.clock)
	if err != nil {
		return Pair{}, err
	}
	return p, f.write(name, p)
}

// Key returns the named private key (NAME.key), made on first use.
func (f *Files) Key(name string) (crypto.Signer, error) {
	key, err := f.readKey(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key, err = newKey()
	if err != nil {
		return nil, err
	}
	return key, f.writeKey(name, key)
}

func (f *Files) path(file string) string { return filepath.Join(f.dir, file) }

func (f *Files) read(name string) (Pair, error) {
	key, err := f.readKey(name)
	if err != nil {
		return Pair{}, err
	}
	block, err := readPEM(f.path(name+".crt"), "CERTIFICATE")
	if err != nil {
		return Pair{}, err
	}
	certificate, err := x509.ParseCertificate(block)
	if err != nil {
		return Pair{}, damaged(f.path(name+".crt"), err)
	}
	own, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(key.Public()) {
		return Pair{}, damaged(f.path(name+".crt"), errors.New("it belongs to another key"))
	}
	return Pair{Certificate: certificate, Key: key}, nil
}

func (f *Files) readKey(name string) (crypto.Signer, error) {
	path := f.path(name + ".key")
	block, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return nil, damaged(path, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, damaged(path, errors.New("it cannot sign"))
	}
	return key, nil
}

// write stores the key first: a certificate is never there without its key.
func (f *Files) write(name string, p Pair) error {
	if err := f.writeKey(name, p.Key); err != nil {
		return err
	}
	return f.writeFile(name+".crt", p.CertificatePEM())
}

// writeFile stores a file, its name too: what is used from then on (an
// authority, a key that signs) must still be there after a power cut.
func (f *Files) writeFile(name string, data []byte) error {
	if err := atomicwriter.WriteFile(f.path(name), data, 0o600); err != nil {
		return err
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("make %s durable: %w", f.path(name), err)
	}
	return nil
}

func (f *Files) writeKey(name string, key crypto.Signer) error {
	encoded, err := keyPEM(key)
	if err != nil {
		return err
	}
	return f.writeFile(name+".key", encoded)
}

// CertificatePEM returns the certificate in PEM form.
func (p Pair) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate.Raw})
}

// KeyPEM returns the private key in PKCS #8 PEM form.
func (p Pair) KeyPEM() ([]byte, error) { return keyPEM(p.Key) }

// TLS returns the pair in the form that crypto/tls uses.
func (p Pair) TLS() tls.Certificate {
	return tls.Certificate{
		Certificate: [][]byte{p.Certificate.Raw},
		PrivateKey:  p.Key,
		Leaf:        p.Certificate,
	}
}

// Pool returns the certificate as the only trusted authority.
func (p Pair) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Certificate)
	return pool
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func readPEM(path, kind string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, damaged(path, fmt.Errorf("expected a PEM block %q", kind))
	}
	return block.Bytes, nil
}

func damaged(path string, err error) error {
	return fmt.Errorf("%s is damaged (%w): restore it from a backup", path, err)
}
