package agent

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/volume"
)

// podHostname returns the Pod's host name and its domain, "" if it has none.
func podHostname(pod *corev1.Pod, clusterDomain string) (name, domain string) {
	if pod.Spec.HostnameOverride != nil {
		return *pod.Spec.HostnameOverride, ""
	}
	name = pod.Spec.Hostname
	if name == "" {
		name = pod.Name
		if len(name) > 63 {
			name = strings.TrimRight(name[:63], "-.")
		}
	}
	if pod.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, clusterDomain)
	}
	return name, domain
}

// kernelHostname is what uname tells in the Pod.
func kernelHostname(pod *corev1.Pod, clusterDomain string) (string, error) {
	name, domain := podHostname(pod, clusterDomain)
	if isTrue(pod.Spec.SetHostnameAsFQDN) && domain != "" && pod.Spec.HostnameOverride == nil {
		name += "." + domain
		if len(name) > 64 {
			return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (64 characters is the max, %d characters requested)", name, len(name))
		}
	}
	return name, nil
}

// hostsFile is the text of a Pod's /etc/hosts; base is the host's own, used
// by Pods on the host's network.
func hostsFile(pod *corev1.Pod, ips []netip.Addr, clusterDomain, base string) string {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n" + base)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n" +
			"127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\n" +
			"fe00::0\tip6-mcastprefix\n" +
			"fe00::1\tip6-allnodes\n" +
			"fe00::2\tip6-allrouters\n")
		name, domain := podHostname(pod, clusterDomain)
		for _, ip := range ips {
			if domain != "" {
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, name, domain, name)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, name)
			}
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, alias := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
		}
	}
	return b.String()
}

// resolver is the content of a resolv.conf.
type resolver struct{ Servers, Search, Options []string }

func parseResolver(text string) resolver {
	var r resolver
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			r.Servers = append(r.Servers, fields[1])
		case "search", "domain":
			r.Search = fields[1:]
		case "options":
			r.Options = append(r.Options, fields[1:]...)
		}
	}
	return r
}

func (r resolver) String() string {
	var b strings.Builder
	if len(r.Search) > 0 {
		b.WriteString("search " + strings.Join(r.Search, " ") + "\n")
	}
	for _, s := range r.Servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(r.Options) > 0 {
		b.WriteString("options " + strings.Join(r.Options, " ") + "\n")
	}
	return b.String()
}

// Limits of what resolv.conf may hold, as upstream applies them.
const (
	maxNameservers  = 3
	maxSearchPaths  = 32
	maxSearchLength = 2048
)

// podResolver is a Pod's resolv.conf by its dnsPolicy and dnsConfig.
func podResolver(pod *corev1.Pod, host resolver, dns []netip.Addr, domain string) resolver {
	var r resolver
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork || len(dns) == 0 && policy != corev1.DNSNone {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		r = host
	default:
		for _, ip := range dns {
			r.Servers = append(r.Servers, ip.String())
		}
		r.Search = append([]string{pod.Namespace + ".svc." + domain, "svc." + domain, domain}, host.Search...)
		r.Options = []string{"ndots:5"}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.Servers = unique(append(slices.Clone(r.Servers), c.Nameservers...))
		r.Search = unique(append(slices.Clone(r.Search), c.Searches...))
		r.Options = mergeOptions(r.Options, c.Options)
	}
	r.Servers = r.Servers[:min(len(r.Servers), maxNameservers)]
	r.Search = r.Search[:min(len(r.Search), maxSearchPaths)]
	for len(strings.Join(r.Search, " ")) > maxSearchLength {
		r.Search = r.Search[:len(r.Search)-1]
	}
	return r
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// mergeOptions lets the Pod's options replace those of the same name.
func mergeOptions(base []string, own []corev1.PodDNSConfigOption) []string {
	out := slices.Clone(base)
	for _, o := range own {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		i := slices.IndexFunc(out, func(s string) bool {
			name, _, _ := strings.Cut(s, ":")
			return name == o.Name
		})
		if i >= 0 {
			out[i] = text
		} else {
			out = append(out, text)
		}
	}
	return out
}

// hostResolver reads the machine's resolv.conf; behind a stub resolver on the
// loopback it takes the file with the real servers.
func hostResolver() resolver {
	data, _ := os.ReadFile("/etc/resolv.conf")
	r := parseResolver(string(data))
	stub := len(r.Servers) > 0 && !slices.ContainsFunc(r.Servers, func(s string) bool { return s != "127.0.0.53" })
	if real, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); stub && err == nil {
		return parseResolver(string(real))
	}
	return r
}

// writeHostFiles writes the files that containers get as /etc/hosts,
// /etc/hostname and /etc/resolv.conf into the Pod's directory.
func (a *Agent) writeHostFiles(pod *corev1.Pod, ips []netip.Addr) error {
	dir := a.podDir(string(pod.UID))
	base := ""
	if pod.Spec.HostNetwork {
		data, err := os.ReadFile("/etc/hosts")
		if err != nil {
			return fmt.Errorf("read /etc/hosts: %w", err)
		}
		base = string(data)
	}
	name, err := kernelHostname(pod, a.ClusterDomain)
	if err != nil {
		return err
	}
	if pod.Spec.HostNetwork {
		name, _ = os.Hostname()
	}
	for file, text := range map[string]string{
		"etc-hosts":   hostsFile(pod, ips, a.ClusterDomain, base),
		"hostname":    name + "\n",
		"resolv.conf": podResolver(pod, hostResolver(), a.ClusterDNS, a.ClusterDomain).String(),
	} {
		if err := volume.WriteIfChanged(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write %s of pod %s: %w", file, podName(pod), err)
		}
	}
	return nil
}
