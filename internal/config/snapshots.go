package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Snapshots are the settings of snapshots, scheduled and on demand.
type Snapshots struct {
	Disabled       bool   // scheduled ones
	Name           string // what the names of scheduled ones begin with
	Schedule       string // cron expression, in the machine's time zone
	Retention      int    // of scheduled ones; 0 keeps all
	Dir            string // "": DATA-DIR/server/snapshots
	Compress       bool
	Full           bool   // keys and tokens, too
	PassphraseFile string // "": not encrypted
	S3             S3
}

// S3 is a bucket that snapshots are copied to.
type S3 struct {
	Enabled       bool
	Endpoint      string // host, with a port where it is not the usual one
	EndpointCA    string // file of a PEM certificate
	SkipSSLVerify bool
	Insecure      bool // HTTP
	Bucket        string
	LookupType    string // auto, dns or path
	Folder        string
	Region        string
	AccessKey     string
	SecretKey     string
	SessionToken  string
	Retention     int // 0 keeps all
	Timeout       time.Duration
}

func defaultSnapshots() Snapshots {
	return Snapshots{
		Name: "etcd-snapshot", Schedule: "0 */12 * * *", Retention: 5, Compress: true,
		S3: S3{
			Endpoint: "s3.amazonaws.com", Region: "us-east-1", LookupType: "auto",
			Retention: 5, Timeout: 5 * time.Minute,
		},
	}
}

func (s *Snapshots) settings() []Setting {
	return append([]Setting{
		{"etcd-disable-snapshots", "take no scheduled snapshots", boolValue(&s.Disabled)},
		{"etcd-snapshot-name", "what the names of scheduled snapshots begin with", stringValue(&s.Name)},
		{"etcd-snapshot-schedule-cron", "when scheduled snapshots are taken", cronValue(&s.Schedule)},
		{"etcd-snapshot-retention", "number of scheduled snapshots to keep (0: all)", countValue(&s.Retention)},
		{"etcd-snapshot-dir", "where snapshots are kept (default: DATA-DIR/server/snapshots)", pathValue(&s.Dir)},
		{"etcd-snapshot-compress", "compress snapshots", boolValue(&s.Compress)},
		{"snapshot-full", "scheduled snapshots have the cluster's keys and tokens, too", boolValue(&s.Full)},
		{"snapshot-passphrase-file", "file whose first line encrypts snapshots", pathValue(&s.PassphraseFile)},
	}, s.S3.settings()...)
}

func (s *S3) settings() []Setting {
	return []Setting{
		{"etcd-s3", "copy snapshots to a bucket", boolValue(&s.Enabled)},
		{"etcd-s3-endpoint", "host, and port, of the bucket's service", stringValue(&s.Endpoint)},
		{"etcd-s3-endpoint-ca", "file with the certificate authority of that host", pathValue(&s.EndpointCA)},
		{"etcd-s3-skip-ssl-verify", "do not verify that host's certificate", boolValue(&s.SkipSSLVerify)},
		{"etcd-s3-insecure", "use HTTP, not HTTPS", boolValue(&s.Insecure)},
		{"etcd-s3-bucket", "name of the bucket", stringValue(&s.Bucket)},
		{"etcd-s3-bucket-lookup-type", "where the bucket's name goes: into the host's name (dns), the path, or what suits the endpoint (auto)", choiceValue(&s.LookupType, "auto", "dns", "path")},
		{"etcd-s3-folder", "folder in the bucket", stringValue(&s.Folder)},
		{"etcd-s3-region", "region of the bucket", stringValue(&s.Region)},
		{"etcd-s3-access-key", "access key, AWS_ACCESS_KEY_ID as well", stringValue(&s.AccessKey)},
		{"etcd-s3-secret-key", "secret key, AWS_SECRET_ACCESS_KEY as well", stringValue(&s.SecretKey)},
		{"etcd-s3-session-token", "token of temporary keys, AWS_SESSION_TOKEN as well", stringValue(&s.SessionToken)},
		{"etcd-s3-retention", "number of scheduled snapshots to keep in the bucket (0: all)", countValue(&s.Retention)},
		{"etcd-s3-timeout", "how long one transfer may take", durationValue(&s.Timeout)},
	}
}

func cronValue(target *string) Value {
	return single[string]{target, "cron", `a cron expression such as "0 */12 * * *"`, func(s string) (string, error) {
		if _, err := cron.ParseStandard(s); err != nil {
			return "", fmt.Errorf("invalid schedule %q: %w", s, err)
		}
		return s, nil
	}, text}
}

// validate fills what derives from the data directory.
func (s *Snapshots) validate(dataDir string) error {
	var errs []error
	if s.Dir == "" {
		s.Dir = filepath.Join(dataDir, "server", "snapshots")
	}
	if s.Name == "" || strings.ContainsAny(s.Name, "/\x00") || strings.HasPrefix(s.Name, ".") {
		errs = append(errs, fmt.Errorf("etcd-snapshot-name %q: expected the beginning of a file's name, such as etcd-snapshot", s.Name))
	}
	if s.S3.Enabled && s.S3.Bucket == "" {
		errs = append(errs, errors.New("etcd-s3 needs a bucket: name it with etcd-s3-bucket"))
	}
	if s.S3.Timeout == 0 {
		errs = append(errs, errors.New("etcd-s3-timeout 0: expected a time in which a snapshot can be sent, such as 5m"))
	}
	return errors.Join(errs...)
}
