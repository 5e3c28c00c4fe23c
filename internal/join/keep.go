package join

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/atomicwriter"
	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
)

// What is kept of a membership. Each certificate has its key beside it, which is
// made once: by its key the cluster knows the machine again.
const (
	authorityFile = "server-ca.crt"
	clientName    = "client"  // client.crt, client.key
	servingName   = "serving" // serving.crt, serving.key
	clusterFile   = "cluster.json"
)

// Directory is where a machine keeps its membership: DATA-DIR/agent/tls, and
// DATA-DIR/agent/cluster.json. Root alone may read it, and each file is there
// whole or not at all.
type Directory struct{ agent, tls string }

// NewDirectory returns the directory, which need not be there.
func NewDirectory(host config.Host) *Directory {
	agent := filepath.Join(host.DataDir, "agent")
	return &Directory{agent: agent, tls: filepath.Join(agent, "tls")}
}

// Remove forgets the membership: what comes next joins anew.
func (d *Directory) Remove() error {
	// The authority goes with the directory: without a certificate nothing else
	// counts, so an end in the middle leaves what the next start can use.
	return errors.Join(os.RemoveAll(d.tls), d.removeFile(d.cluster()))
}

func (d *Directory) removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *Directory) cluster() string { return filepath.Join(d.agent, clusterFile) }

// kept is what a Directory has; nil is what it has not.
type kept struct {
	authority []byte // PEM, byte for byte as the server gave it
	root      *x509.Certificate
	client    *x509.Certificate
	serving   *x509.Certificate
	cluster   *Cluster
}

// read returns what there is. What is damaged but can be had again counts as
// missing; a damaged key does not, since with it the node's name is lost.
func (d *Directory) read(log *zap.Logger) (kept, error) {
	var k kept
	authority, err := os.ReadFile(filepath.Join(d.tls, authorityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, fmt.Errorf("read membership: %w", err)
	}
	if k.root, err = pki.ParseAuthority(authority); err != nil {
		return k, lostAuthority(d)
	}
	k.authority = authority
	if k.client, err = d.readCertificate(clientName, k.root, log); err != nil {
		return k, lostKey(d, err)
	}
	if k.serving, err = d.readCertificate(servingName, k.root, log); err != nil { // of that key nobody knows
		log.Warn("kept key is of no use; a new one is made", zap.String("name", servingName), zap.Error(err))
		if err := d.removeFile(filepath.Join(d.tls, servingName+".key")); err != nil {
			return k, err
		}
	}
	if k.cluster, err = d.readCluster(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("kept settings of the cluster are of no use; they are asked again", zap.Error(err))
	}
	return k, nil
}

// readCertificate returns a certificate that is for the key beside it and leads
// to the root; nil if there is none. The error is that the key is damaged.
func (d *Directory) readCertificate(name string, root *x509.Certificate, log *zap.Logger) (*x509.Certificate, error) {
	data, err := os.ReadFile(filepath.Join(d.tls, name+".crt"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	key, keyErr := d.key(name)
	if keyErr != nil {
		return nil, keyErr
	}
	certificate, parseErr := parseCertificate(data)
	if err = errors.Join(err, parseErr); err == nil {
		err = isFor(certificate, key, root)
	}
	if err != nil {
		log.Warn("kept certificate is of no use; a new one is needed", zap.String("name", name), zap.Error(err))
		return nil, nil
	}
	return certificate, nil
}

// isFor says whether a certificate is for the key and leads to the root.
func isFor(certificate *x509.Certificate, key crypto.Signer, root *x509.Certificate) error {
	own, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(key.Public()) {
		return errors.New("the certificate is for another key")
	}
	if err := certificate.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("the certificate is not the cluster's: %w", err)
	}
	return nil
}

// parseCertificate reads the first certificate of a PEM text.
func parseCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("there is no certificate in it")
	}
	return x509.ParseCertificate(block.Bytes)
}

// key returns a key, made on first use.
func (d *Directory) key(name string) (crypto.Signer, error) {
	files, err := pki.Open(d.tls, pki.Clock{}) // keys have no time
	if err != nil {
		return nil, err
	}
	return files.Key(name)
}

// pair returns a certificate with its key.
func (d *Directory) pair(name string, certificate *x509.Certificate) (pki.Pair, error) {
	key, err := d.key(name)
	return pki.Pair{Certificate: certificate, Key: key}, err
}

func (d *Directory) writeAuthority(authority []byte) error {
	return d.write(filepath.Join(d.tls, authorityFile), authority)
}

func (d *Directory) writeCertificate(name string, p pki.Pair) error {
	return d.write(filepath.Join(d.tls, name+".crt"), p.CertificatePEM())
}

// readCluster reads what writeCluster wrote: the data of the ConfigMap.
func (d *Directory) readCluster() (*Cluster, error) {
	text, err := os.ReadFile(d.cluster())
	if err != nil {
		return nil, err
	}
	var data map[string]string
	if err := json.Unmarshal(text, &data); err != nil {
		return nil, err
	}
	c, err := parseCluster(data)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func (d *Directory) writeCluster(c Cluster) error {
	text, err := json.MarshalIndent(c.data, "", "  ")
	if err != nil {
		return err
	}
	return d.write(d.cluster(), append(text, '\n'))
}

// write replaces a file whole, and its name is on disk too when it returns: a
// certificate that is used must still be there after a power cut.
func (d *Directory) write(path string, data []byte) error {
	if err := os.MkdirAll(d.tls, 0o700); err != nil {
		return fmt.Errorf("keep membership: %w", err)
	}
	if err := atomicwriter.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("keep membership: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("keep membership: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("keep membership: make %s durable: %w", path, err)
	}
	return nil
}
