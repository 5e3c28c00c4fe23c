package snapshot

import (
	"fmt"
	"os"
	"strings"
)

// PassphraseVariable is the environment variable that may hold the passphrase.
const PassphraseVariable = "SKIFF_SNAPSHOT_PASSPHRASE"

// Passphrase returns the first line of a file, or what the environment has when
// no file is named; "" is none.
func Passphrase(file string) (string, error) {
	if file == "" {
		return os.Getenv(PassphraseVariable), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the passphrase: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("the first line of %s is empty: it should be the passphrase", file)
	}
	return line, nil
}
