package snapshot

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/skiff-sh/skiff/internal/config"
)

// Bucket is a Place in a service that speaks S3.
type Bucket struct {
	client  *minio.Client
	bucket  string
	folder  string
	timeout time.Duration
}

// NewBucket returns the bucket of the settings without asking for it.
func NewBucket(s config.S3) (*Bucket, error) {
	if s.Bucket == "" {
		return nil, errors.New("the bucket has no name: set it with --etcd-s3-bucket")
	}
	transport, err := transport(s)
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupAuto
	switch s.LookupType {
	case "dns":
		lookup = minio.BucketLookupDNS
	case "path":
		lookup = minio.BucketLookupPath
	}
	keys := credentials.NewStaticV4(s.AccessKey, s.SecretKey, s.SessionToken)
	if s.AccessKey == "" && s.SecretKey == "" {
		keys = credentials.NewIAM("") // of the cloud's machine
	}
	client, err := minio.New(s.Endpoint, &minio.Options{
		Creds: keys, Secure: !s.Insecure, Region: s.Region, BucketLookup: lookup, Transport: transport,
		MaxRetries: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("etcd-s3-endpoint %q: %w", s.Endpoint, err)
	}
	return &Bucket{client: client, bucket: s.Bucket, folder: s.Folder, timeout: s.Timeout}, nil
}

func transport(s config.S3) (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: s.SkipSSLVerify} //nolint:gosec // asked for
	t.DisableCompression = true
	t.IdleConnTimeout = 10 * time.Second // one transfer in twelve hours needs no open connection
	if s.EndpointCA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(s.EndpointCA)
	if err != nil {
		return nil, fmt.Errorf("etcd-s3-endpoint-ca: %w", err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("etcd-s3-endpoint-ca: there is no certificate in %s: expected PEM", s.EndpointCA)
	}
	return t, nil
}

// Put copies a snapshot file from this machine, in one request: the service
// compares its checksum, and a transfer that breaks off leaves nothing there.
func (b *Bucket) Put(ctx context.Context, file string) (File, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	name := filepath.Base(file)
	info, err := b.client.FPutObject(ctx, b.bucket, b.key(name), file, minio.PutObjectOptions{
		ContentType: "application/octet-stream", DisableMultipart: true, SendContentMd5: true,
	})
	if err != nil {
		return File{}, b.explain("send "+name, err)
	}
	return b.file(name, info.Size, info.LastModified), nil
}

// List implements Place.
func (b *Bucket) List(ctx context.Context) ([]File, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	prefix := ""
	if b.folder != "" {
		prefix = path.Clean(b.folder) + "/"
	}
	var files []File
	for object := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if object.Err != nil {
			return nil, b.explain("list snapshots", object.Err)
		}
		name := path.Base(object.Key)
		if _, _, ok := number(name); ok {
			files = append(files, b.file(name, object.Size, object.LastModified))
		}
	}
	byNumber(files)
	return files, nil
}

// Open implements Place. The name may lack its endings.
func (b *Bucket) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	name, err := b.find(ctx, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	object, err := b.client.GetObject(ctx, b.bucket, b.key(name), minio.GetObjectOptions{})
	if err != nil {
		cancel()
		return nil, b.explain("get "+name, err)
	}
	return &download{Object: object, cancel: cancel}, nil
}

// download ends its request when it is closed.
type download struct {
	*minio.Object
	cancel context.CancelFunc
}

func (d *download) Close() error {
	defer d.cancel()
	return d.Object.Close()
}

// Remove implements Place. The name may lack its endings.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	name, err := b.find(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	if err := b.client.RemoveObject(ctx, b.bucket, b.key(name), minio.RemoveObjectOptions{}); err != nil {
		return b.explain("remove "+name, err)
	}
	return nil
}

func (b *Bucket) find(ctx context.Context, name string) (string, error) {
	files, err := b.List(ctx)
	if err != nil {
		return "", err
	}
	return find(files, name)
}

func (b *Bucket) key(name string) string { return path.Join(b.folder, name) }

func (b *Bucket) file(name string, bytes int64, created time.Time) File {
	location := url.URL{Scheme: "s3", Host: b.bucket, Path: "/" + b.key(name)}
	return File{Name: name, Location: location.String(), Bytes: bytes, Created: created.UTC(), Encrypted: encrypted(name)}
}

// explain names the place, and what to look at.
func (b *Bucket) explain(what string, err error) error {
	hint := "see the etcd-s3-… settings"
	switch minio.ToErrorResponse(err).Code {
	case minio.NoSuchBucket:
		hint = "make the bucket, or name another with --etcd-s3-bucket"
	case minio.AccessDenied, "InvalidAccessKeyId", "SignatureDoesNotMatch":
		hint = "see etcd-s3-access-key and etcd-s3-secret-key"
	}
	return fmt.Errorf("%s at %s, bucket %s: %w; %s", what, b.client.EndpointURL().Host, b.bucket, err, hint)
}
