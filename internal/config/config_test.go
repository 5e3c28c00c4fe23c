package config

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// load merges a settings file, drop-ins, environment and flags the way the
// command does.
func load(t *testing.T, file string, dropIns map[string]string, env, args []string) (Server, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, file)
	for name, text := range dropIns {
		write(t, filepath.Join(path+".d", name), text)
	}
	s := DefaultServer()
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	RegisterFlags(flags, s.Settings())
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	err := Load(s.Settings(), Sources{File: path, Environment: env, Flags: flags})
	if err == nil {
		err = s.Validate()
	}
	if err != nil {
		return s, &pathless{strings.ReplaceAll(err.Error(), path, "FILE")}
	}
	return s, nil
}

type pathless struct{ text string }

func (e *pathless) Error() string { return e.text }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLaterSourcesReplaceEarlierOnes(t *testing.T) {
	s, err := load(t,
		"node-name: from-file\nlog-level: debug\ntls-san: [a, b]\nwrite-kubeconfig-mode: 0644\nhttps-listen-port: 7001\n",
		map[string]string{"20.yaml": "https-listen-port: 7003\n", "10.yaml": "https-listen-port: 7002\ntls-san: c\n"},
		[]string{"SKIFF_NODE_NAME=from-env", "SKIFF_LOG_LEVEL=warn", "SKIFF_NODE_LABEL=a=1,b=2"},
		[]string{"--log-level=error", "--disable-agent", "--node-taint=k=v:NoSchedule", "--node-taint=l:NoExecute"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, setting := range s.Settings() {
		got[setting.Key] = setting.Value.String()
	}
	want := map[string]string{
		"node-name": "from-env", "log-level": "error", "https-listen-port": "7003", "tls-san": "c",
		"write-kubeconfig-mode": "0644", "disable-agent": "true", "node-label": "a=1,b=2",
		"node-taint": "k=v:NoSchedule,l:NoExecute", "cluster-dns": "10.43.0.10",
		"write-kubeconfig": "/etc/skiff/kubeconfig.yaml",
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s = %q, want %q", key, got[key], value)
		}
	}
}

// Every bad key and value is named with its place and with what was expected.
func TestProblemsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name string
		file string
		env  []string
		args []string
		want string
	}{
		{name: "unknown key", file: "data-dri: /x\n", want: `FILE, line 1: unknown key "data-dri"; did you mean "data-dir"?`},
		{name: "unrelated key", file: "frobnicate: 1\n", want: `FILE, line 1: unknown key "frobnicate"; see --help for the keys`},
		{name: "relative path", args: []string{"--data-dir=x"}, want: `flag --data-dir: data-dir: "x" is not an absolute path, expected an absolute path such as /var/lib/skiff`},
		{name: "port", env: []string{"SKIFF_HTTPS_LISTEN_PORT=0"}, want: `environment variable SKIFF_HTTPS_LISTEN_PORT: https-listen-port: invalid port "0", expected a port number from 1 to 65535`},
		{name: "list where none may be", file: "\nnode-name: [a, b]\n", want: `FILE, line 2: node-name: a list is not possible here, expected a text`},
		{name: "mapping where none may be", file: "tls-san: {a: b}\n", want: `FILE, line 1: tls-san: expected a plain value or a list of plain values`},
		{name: "not a mapping", file: "- a\n", want: `FILE: expected a mapping such as "data-dir: /var/lib/skiff"`},
		{name: "address", file: "node-ip: 1.2.3\n", want: `FILE, line 1: node-ip: invalid IP address "1.2.3", expected IP addresses such as 192.168.1.10`},
		{name: "bind address", file: "bind-address: here\n", want: `FILE, line 1: bind-address: invalid IP address "here", expected an IP address such as 192.168.1.10`},
		{name: "network with host bits", file: "cluster-cidr: 10.42.0.1/16\n", want: `FILE, line 1: cluster-cidr: network "10.42.0.1/16" has host bits set (meant 10.42.0.0/16?), expected networks in CIDR notation such as 10.42.0.0/16`},
		{name: "overlap", file: "cluster-cidr: 10.0.0.0/8\n", want: `cluster-cidr 10.0.0.0/8 and service-cidr 10.43.0.0/16 overlap: choose ranges that do not`},
		{name: "IPv6", file: "service-cidr: fd00::/112\n", want: `service-cidr fd00::/112: only IPv4 networks are possible so far`},
		{name: "small range", file: "service-cidr: 10.9.0.0/30\n", want: `service-cidr 10.9.0.0/30: too small, expected a prefix length of at most 28`},
		{name: "two ranges", file: "service-cidr: [10.43.0.0/16, 10.44.0.0/16]\n", want: `service-cidr: expected one network, there are 2`},
		{name: "DNS outside", file: "cluster-dns: 10.1.1.1\n", want: `cluster-dns 10.1.1.1: expected an address within service-cidr`},
		{name: "port range", file: "service-node-port-range: 9-1\n", want: `FILE, line 1: service-node-port-range: invalid range "9-1", expected a range of ports such as 30000-32767`},
		{name: "mode", file: "write-kubeconfig-mode: 0999\n", want: `FILE, line 1: write-kubeconfig-mode: invalid mode "0999", expected an octal file mode such as 0640`},
		{name: "bool", file: "disable-agent: maybe\n", want: `FILE, line 1: disable-agent: invalid value "maybe", expected true or false`},
		{name: "choice", file: "log-format: xml\n", want: `FILE, line 1: log-format: invalid value "xml", expected one of console, json`},
		{name: "label", file: "node-label: novalue\n", want: `FILE, line 1: node-label: invalid label "novalue": there is no =, expected labels such as disk=ssd`},
		{name: "taint", file: "node-taint: a=b:Never\n", want: `FILE, line 1: node-taint: invalid effect "Never" (there are NoSchedule, PreferNoSchedule and NoExecute), expected taints such as dedicated=db:NoSchedule`},
		{name: "node name", file: "node-name: My_Node\n", want: `node-name "My_Node": a lowercase RFC 1123 subdomain`},
		{name: "domain", file: "cluster-domain: a..b\n", want: `cluster-domain "a..b": a lowercase RFC 1123 subdomain`},
		{name: "window", file: "store-lazy-window: soon\n", want: `FILE, line 1: store-lazy-window: invalid duration "soon", expected a duration such as 90s, 10m or 0`},
		{name: "negative window", file: "store-events-window: -1s\n", want: `FILE, line 1: store-events-window: invalid duration "-1s", expected a duration such as 90s, 10m or 0`},
		{name: "schedule", file: "etcd-snapshot-schedule-cron: every day\n", want: `FILE, line 1: etcd-snapshot-schedule-cron: invalid schedule "every day": expected exactly 5 fields, found 2: [every day], expected a cron expression such as "0 */12 * * *"`},
		{name: "retention", file: "etcd-snapshot-retention: -1\n", want: `FILE, line 1: etcd-snapshot-retention: invalid number "-1", expected a number of 0 or more`},
		{name: "snapshot name", file: "etcd-snapshot-name: a/b\n", want: `etcd-snapshot-name "a/b": expected the beginning of a file's name, such as etcd-snapshot`},
		{name: "no bucket", file: "etcd-s3: true\n", want: `etcd-s3 needs a bucket: name it with etcd-s3-bucket`},
		{name: "no time", file: "etcd-s3-timeout: 0\n", want: `etcd-s3-timeout 0: expected a time in which a snapshot can be sent, such as 5m`},
		{name: "lookup", file: "etcd-s3-bucket-lookup-type: host\n", want: `FILE, line 1: etcd-s3-bucket-lookup-type: invalid value "host", expected one of auto, dns, path`},
		{name: "all at once", file: "x1y2z3: 1\nhttps-listen-port: a\n", want: "see --help for the keys\nFILE, line 2: https-listen-port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.file, nil, c.env, c.args)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got:  %s\nwant: %s", err, c.want)
			}
		})
	}
}

func TestDefaultsOfTheStore(t *testing.T) {
	s, err := load(t, "data-dir: /srv/skiff\n", nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Store != (Store{LazyWindow: 10 * time.Minute, EventsWindow: time.Minute}) {
		t.Errorf("windows: %+v", s.Store)
	}
	got := map[string]string{}
	for _, setting := range s.Settings() {
		got[setting.Key] = setting.Value.String()
	}
	for key, want := range map[string]string{
		"store-lazy-window": "10m", "store-events-window": "1m", "etcd-snapshot-dir": "/srv/skiff/server/snapshots",
		"etcd-snapshot-schedule-cron": "0 */12 * * *", "etcd-snapshot-retention": "5", "etcd-s3-timeout": "5m",
	} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}
	s, err = load(t, "store-lazy-window: 0\nstore-events-window: 1h30m\n", nil, nil, nil)
	if err != nil || s.Store != (Store{EventsWindow: 90 * time.Minute}) {
		t.Errorf("windows: %+v, %v", s.Store, err)
	}
}

// Keys of a bucket may be where other programs look for them; what names skiff
// is stronger.
func TestKeysOfTheBucket(t *testing.T) {
	s, err := load(t, "etcd-s3-access-key: from-file\n", nil, []string{
		"SKIFF_ETCD_S3_SECRET_KEY=ours", "AWS_SECRET_ACCESS_KEY=theirs", "AWS_ACCESS_KEY_ID=id",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Snapshots.S3.AccessKey != "id" || s.Snapshots.S3.SecretKey != "ours" {
		t.Errorf("got %q and %q", s.Snapshots.S3.AccessKey, s.Snapshots.S3.SecretKey)
	}
}

func TestMissingFile(t *testing.T) {
	s := DefaultServer()
	err := Load(s.Settings(), Sources{File: "/nonexistent/config.yaml"})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/config.yaml") {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

func TestHostDerivesFromDataDir(t *testing.T) {
	a, b, standard := NewHost("/a"), NewHost("/b/"), NewHost("/var/lib/skiff/")
	if a.RunDir == b.RunDir || a.Table == b.Table || a.CgroupRoot == b.CgroupRoot || a.LinkPrefix == b.LinkPrefix {
		t.Errorf("two data directories share names: %+v and %+v", a, b)
	}
	want := Host{DataDir: DefaultDataDir, RunDir: "/run/skiff", LogDir: "/var/log/pods", CgroupRoot: "kubepods", Table: "skiff", LinkPrefix: "skf"}
	if diff := cmp.Diff(want, standard); diff != "" {
		t.Error(diff)
	}
}

func TestAPIServiceAddresses(t *testing.T) {
	s := DefaultServer()
	if diff := cmp.Diff([]netip.Addr{netip.MustParseAddr("10.43.0.1")}, s.APIServiceAddresses(),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if s.WriteKubeconfigMode != fs.FileMode(0o600) {
		t.Errorf("kubeconfig mode is %o", s.WriteKubeconfigMode)
	}
}
