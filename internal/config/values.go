package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// single is a Value of one T.
type single[T any] struct {
	target   *T
	kind     string
	expected string
	parse    func(string) (T, error)
	format   func(T) string
}

func (v single[T]) Set(texts []string) error {
	parsed, err := v.parse(texts[0])
	if err != nil {
		return err
	}
	*v.target = parsed
	return nil
}

func (v single[T]) String() string   { return v.format(*v.target) }
func (v single[T]) Expected() string { return v.expected }
func (v single[T]) Type() string     { return v.kind }
func (v single[T]) IsList() bool     { return false }

// list is a Value of any number of Ts.
type list[T any] struct {
	target   *[]T
	kind     string
	expected string
	parse    func(string) (T, error)
	format   func(T) string
}

func (v list[T]) Set(texts []string) error {
	var all []T
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		parsed, err := v.parse(text)
		if err != nil {
			return err
		}
		all = append(all, parsed)
	}
	*v.target = all
	return nil
}

func (v list[T]) String() string {
	texts := make([]string, len(*v.target))
	for i, item := range *v.target {
		texts[i] = v.format(item)
	}
	return strings.Join(texts, ",")
}

func (v list[T]) Expected() string { return v.expected }
func (v list[T]) Type() string     { return v.kind }
func (v list[T]) IsList() bool     { return true }

func text(s string) string { return s }

func stringValue(target *string) Value {
	return single[string]{target, "string", "a text",
		func(s string) (string, error) { return s, nil }, text}
}

func stringsValue(target *[]string) Value {
	return list[string]{target, "strings", "texts",
		func(s string) (string, error) { return s, nil }, text}
}

func choiceValue(target *string, choices ...string) Value {
	expected := "one of " + strings.Join(choices, ", ")
	return single[string]{target, "string", expected, func(s string) (string, error) {
		if !slices.Contains(choices, s) {
			return "", fmt.Errorf("invalid value %q", s)
		}
		return s, nil
	}, text}
}

func boolValue(target *bool) Value {
	return single[bool]{target, "bool", "true or false", func(s string) (bool, error) {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return false, fmt.Errorf("invalid value %q", s)
		}
		return b, nil
	}, strconv.FormatBool}
}

func countValue(target *int) Value {
	return single[int]{target, "count", "a number of 0 or more", func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("invalid number %q", s)
		}
		return n, nil
	}, strconv.Itoa}
}

func durationValue(target *time.Duration) Value {
	return single[time.Duration]{target, "duration", "a duration such as 90s, 10m or 0", func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("invalid duration %q", s)
		}
		return d, nil
	}, shortDuration}
}

// shortDuration writes 10m0s as 10m.
func shortDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func portValue(target *int) Value {
	return single[int]{target, "port", "a port number from 1 to 65535", parsePort, strconv.Itoa}
}

func parsePort(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("invalid port %q", s)
	}
	return n, nil
}

func pathValue(target *string) Value {
	return single[string]{target, "path", "an absolute path such as " + DefaultDataDir,
		func(s string) (string, error) {
			if !filepath.IsAbs(s) {
				return "", fmt.Errorf("%q is not an absolute path", s)
			}
			return filepath.Clean(s), nil
		}, text}
}

func modeValue(target *fs.FileMode) Value {
	return single[fs.FileMode]{target, "mode", "an octal file mode such as 0640",
		func(s string) (fs.FileMode, error) {
			n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
			if err != nil || n > 0o777 {
				return 0, fmt.Errorf("invalid mode %q", s)
			}
			return fs.FileMode(n), nil
		}, func(m fs.FileMode) string { return fmt.Sprintf("%04o", m) }}
}

func addressValue(target *netip.Addr) Value {
	return single[netip.Addr]{target, "ip", "an IP address such as 192.168.1.10", parseAddress,
		func(a netip.Addr) string {
			if !a.IsValid() {
				return ""
			}
			return a.String()
		}}
}

func addressesValue(target *[]netip.Addr) Value {
	return list[netip.Addr]{target, "ips", "IP addresses such as 192.168.1.10", parseAddress, netip.Addr.String}
}

func parseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("invalid IP address %q", s)
	}
	return a, nil
}

func prefixesValue(target *[]netip.Prefix) Value {
	return list[netip.Prefix]{target, "cidrs", "networks in CIDR notation such as 10.42.0.0/16",
		func(s string) (netip.Prefix, error) {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return p, fmt.Errorf("invalid network %q", s)
			}
			if p != p.Masked() {
				return p, fmt.Errorf("network %q has host bits set (meant %s?)", s, p.Masked())
			}
			return p, nil
		}, netip.Prefix.String}
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last int }

// String returns "30000-32767".
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

func portRangeValue(target *PortRange) Value {
	return single[PortRange]{target, "ports", "a range of ports such as 30000-32767",
		func(s string) (PortRange, error) {
			first, last, found := strings.Cut(s, "-")
			a, errA := parsePort(first)
			b, errB := parsePort(last)
			if !found || errA != nil || errB != nil || a > b {
				return PortRange{}, fmt.Errorf("invalid range %q", s)
			}
			return PortRange{First: a, Last: b}, nil
		}, PortRange.String}
}

// Label is a key and its value.
type Label struct{ Key, Value string }

func labelsValue(target *[]Label) Value {
	return list[Label]{target, "labels", "labels such as disk=ssd", parseLabel,
		func(l Label) string { return l.Key + "=" + l.Value }}
}

func parseLabel(s string) (Label, error) {
	key, value, found := strings.Cut(s, "=")
	problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...)
	if !found {
		problems = append(problems, "there is no =")
	}
	if len(problems) > 0 {
		return Label{}, fmt.Errorf("invalid label %q: %s", s, problems[0])
	}
	return Label{Key: key, Value: value}, nil
}

func taintsValue(target *[]corev1.Taint) Value {
	return list[corev1.Taint]{target, "taints", "taints such as dedicated=db:NoSchedule", parseTaint,
		func(t corev1.Taint) string { return t.ToString() }}
}

func parseTaint(s string) (corev1.Taint, error) {
	rest, effect, found := strings.Cut(s, ":")
	key, value, _ := strings.Cut(rest, "=")
	if !found {
		return corev1.Taint{}, fmt.Errorf("invalid taint %q: there is no effect", s)
	}
	problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...)
	if len(problems) > 0 {
		return corev1.Taint{}, fmt.Errorf("invalid taint %q: %s", s, problems[0])
	}
	switch e := corev1.TaintEffect(effect); e {
	case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		return corev1.Taint{Key: key, Value: value, Effect: e}, nil
	}
	return corev1.Taint{}, errors.New("invalid effect " + strconv.Quote(effect) +
		" (there are NoSchedule, PreferNoSchedule and NoExecute)")
}
