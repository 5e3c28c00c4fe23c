package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// readToken returns the token that was set, from its file where one is named.
func readToken(token, file string) (string, error) {
	token = strings.TrimSpace(token)
	if file == "" {
		return token, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("token-file: %w", err)
	}
	kept := strings.TrimSpace(string(data))
	switch {
	case kept == "":
		return "", fmt.Errorf("token-file: there is no token in %s", file)
	case token != "" && token != kept:
		return "", errors.New("token and token-file are both set: keep one")
	}
	return kept, nil
}
