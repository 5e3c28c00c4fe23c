package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// DefaultFile is the settings file that is read when no other is named; it need
// not exist.
const DefaultFile = "/etc/skiff/config.yaml"

// EnvironmentPrefix starts the environment variable of every setting:
// SKIFF_DATA_DIR for data-dir.
const EnvironmentPrefix = "SKIFF_"

// Setting is one thing a person can set: by file under its key, by environment,
// by flag.
type Setting struct {
	Key   string
	Usage string
	Value Value
}

// Value parses and shows a setting's value.
type Value interface {
	// Set replaces the value. Settings that are not lists get one text.
	Set(texts []string) error
	// String shows the value as a person would write it.
	String() string
	// Expected names what Set accepts: "a port number from 1 to 65535".
	Expected() string
	// Type is the word that help texts show for the value.
	Type() string
	// IsList says whether more than one text is accepted.
	IsList() bool
}

// Environment returns the name of the setting's environment variable. That of
// the server is the one k3s has.
func (s Setting) Environment() string {
	if s.Key == "server" {
		return EnvironmentPrefix + "URL"
	}
	return EnvironmentPrefix + strings.ToUpper(strings.ReplaceAll(s.Key, "-", "_"))
}

// RegisterFlags adds a flag for every setting. The flags only record what was
// given; Load applies it after the other sources.
func RegisterFlags(flags *pflag.FlagSet, settings []Setting) {
	for _, s := range settings {
		f := flags.VarPF(&recorder{value: s.Value}, s.Key, "", s.Usage+" ["+s.Environment()+"]")
		if s.Value.Type() == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

// Sources are where Load takes settings from, weakest first: File with its
// drop-ins, Environment, Flags.
type Sources struct {
	File        string   // path; "" is DefaultFile if it exists
	Environment []string // as os.Environ returns
	Flags       *pflag.FlagSet
}

// Load applies the sources in order; a later one replaces what an earlier one
// set, lists included. All that is wrong is told at once, joined in one error.
func Load(settings []Setting, from Sources) error {
	given, err := fromFiles(from.File)
	errs := []error{err}
	given = append(given, fromEnvironment(settings, from.Environment)...)
	given = append(given, fromFlags(from.Flags)...)
	for _, a := range given {
		errs = append(errs, a.apply(settings))
	}
	return errors.Join(errs...)
}

// assignment is what one source says of one key.
type assignment struct {
	source string // "/etc/skiff/config.yaml, line 3", "environment", "--data-dir"
	key    string
	texts  []string
}

func (a assignment) apply(settings []Setting) error {
	i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == a.key })
	if i < 0 {
		return fmt.Errorf("%s: unknown key %q%s", a.source, a.key, suggest(settings, a.key))
	}
	v := settings[i].Value
	if !v.IsList() && len(a.texts) != 1 {
		return fmt.Errorf("%s: %s: a list is not possible here, expected %s", a.source, a.key, v.Expected())
	}
	if err := v.Set(a.texts); err != nil {
		return fmt.Errorf("%s: %s: %w, expected %s", a.source, a.key, err, v.Expected())
	}
	return nil
}

func fromFiles(path string) ([]assignment, error) {
	explicit := path != ""
	if !explicit {
		path = DefaultFile
	}
	given, err := fromFile(path)
	if errors.Is(err, os.ErrNotExist) && !explicit {
		err = nil
	}
	errs := []error{err}
	dropIns, _ := filepath.Glob(filepath.Join(path+".d", "*.yaml")) // errs only on a bad pattern
	sort.Strings(dropIns)
	for _, p := range dropIns {
		more, err := fromFile(p)
		given = append(given, more...)
		errs = append(errs, err)
	}
	return given, errors.Join(errs...)
}

// fromFile reads one YAML mapping of keys to scalars or lists of scalars. The
// texts are taken as written, so that a mode of 0644 stays octal.
func fromFile(path string) ([]assignment, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if doc.Kind == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: expected a mapping such as \"data-dir: %s\"", path, DefaultDataDir)
	}
	var given []assignment
	var errs []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		source := fmt.Sprintf("%s, line %d", path, key.Line)
		texts, err := scalars(value)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", source, key.Value, err))
			continue
		}
		given = append(given, assignment{source: source, key: key.Value, texts: texts})
	}
	return given, errors.Join(errs...)
}

func scalars(n *yaml.Node) ([]string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		return []string{n.Value}, nil
	case yaml.SequenceNode:
		texts := make([]string, 0, len(n.Content))
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, errors.New("expected a list of plain values")
			}
			texts = append(texts, item.Value)
		}
		return texts, nil
	default:
		return nil, errors.New("expected a plain value or a list of plain values")
	}
}

func fromEnvironment(settings []Setting, environment []string) []assignment {
	var given []assignment
	for _, s := range settings {
		for _, wanted := range []string{foreignName(s.Key), s.Environment()} {
			for _, entry := range environment {
				name, text, _ := strings.Cut(entry, "=")
				if name != wanted {
					continue
				}
				texts := []string{text}
				if s.Value.IsList() {
					texts = strings.Split(text, ",")
				}
				given = append(given, assignment{source: "environment variable " + name, key: s.Key, texts: texts})
			}
		}
	}
	return given
}

// foreignName is the environment variable in which other programs look for the
// same thing, or "". Ours is stronger.
func foreignName(key string) string {
	switch key {
	case "etcd-s3-access-key":
		return "AWS_ACCESS_KEY_ID"
	case "etcd-s3-secret-key":
		return "AWS_SECRET_ACCESS_KEY"
	case "etcd-s3-session-token":
		return "AWS_SESSION_TOKEN"
	}
	return ""
}

func fromFlags(flags *pflag.FlagSet) []assignment {
	if flags == nil {
		return nil
	}
	var given []assignment
	flags.Visit(func(f *pflag.Flag) {
		r, ok := f.Value.(*recorder)
		if ok {
			given = append(given, assignment{source: "flag --" + f.Name, key: f.Name, texts: r.texts})
		}
	})
	return given
}

// recorder is a flag that keeps what it was given.
type recorder struct {
	value Value
	texts []string
}

func (r *recorder) String() string {
	if r.value == nil { // pflag asks a zero recorder for the zero value
		return ""
	}
	return r.value.String()
}

func (r *recorder) Type() string { return r.value.Type() }

func (r *recorder) Set(text string) error {
	if r.value.IsList() {
		r.texts = append(r.texts, strings.Split(text, ",")...)
		return nil
	}
	r.texts = []string{text}
	return nil
}

// suggest names the known key nearest to a mistyped one.
func suggest(settings []Setting, key string) string {
	best, distance := "", 4
	for _, s := range settings {
		if d := editDistance(s.Key, key); d < distance {
			best, distance = s.Key, d
		}
	}
	if best == "" {
		return "; see --help for the keys"
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
