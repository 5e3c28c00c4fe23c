package agent

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/volume"
)

// maxEnvFile is the most bytes of a file of variables: it is a container's, and
// read into our own memory.
const maxEnvFile = 1 << 20

// fileKey is the variable of a file that an earlier container of the Pod wrote
// into a volume; ok is false where an optional one is not in it.
func (e *environment) fileKey(ref *corev1.FileKeySelector) (value string, ok bool, err error) {
	root, found := e.Volumes[ref.VolumeName]
	if !found {
		return "", false, fmt.Errorf("cannot find the volume %q referenced by FileKeyRef", ref.VolumeName)
	}
	data, err := volume.ReadFile(root, ref.Path, maxEnvFile)
	if err == nil {
		value, err = parseEnv(string(data), ref.Key)
	}
	if err != nil {
		// What the file says, or that it is not there, is for nobody but its Pod.
		return "", false, errors.New("couldn't parse env file")
	}
	if value == "" && !isTrue(ref.Optional) {
		return "", false, fmt.Errorf("environment variable key %q not found in file %q", ref.Key, ref.Path)
	}
	return value, value != "", nil
}

// parseEnv returns what a file of lines NAME='value' says of a name, "" if
// nothing. It reads as far as that line: a part of what a POSIX shell takes,
// with values in single quotes alone, which may be of several lines, and
// comments. What a shell would read otherwise is an error.
func parseEnv(text, key string) (string, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimLeft(strings.TrimSuffix(lines[i], "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		wrong := func(what string) error {
			return fmt.Errorf("invalid environment variable format at line %d: %s", i+1, what)
		}
		name, value, ok := strings.Cut(line, "=")
		switch {
		case !ok:
			return "", wrong("missing '='")
		case strings.TrimRight(name, " \t") == "":
			return "", wrong("empty variable name")
		case strings.TrimRight(name, " \t") != name:
			return "", wrong("whitespace before '=' is not allowed")
		case strings.TrimLeft(value, " \t") != value: // to a shell the variable is empty
			if name == key {
				return "", nil
			}
			continue
		case !strings.HasPrefix(value, "'"):
			return "", wrong("value must be enclosed in single quotes")
		}
		value = value[1:]
		begin := i + 1
		for !strings.Contains(value, "'") {
			if i++; i == len(lines) {
				return "", fmt.Errorf("invalid environment variable format starting at line %d: unclosed single quote", begin)
			}
			value += "\n" + strings.TrimSuffix(lines[i], "\r")
		}
		value, rest, _ := strings.Cut(value, "'")
		if rest = strings.TrimLeft(rest, " \t"); rest != "" && rest[0] != '#' {
			return "", wrong("unexpected content after closing quote")
		}
		if name == key {
			return value, nil
		}
	}
	return "", nil
}
