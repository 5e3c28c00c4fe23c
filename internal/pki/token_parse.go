package pki

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// ParseToken reads a token in any of its forms. The error says what is wrong
// with it, what a person took for a token by mistake included, and shows none of
// its secrets.
func ParseToken(text string) (Token, error) {
	t, err := parseToken(strings.TrimSpace(text))
	if err != nil {
		return Token{}, fmt.Errorf("the token is not valid: %w; make one on a server with skiff token create", err)
	}
	return t, nil
}

func parseToken(text string) (Token, error) {
	if err := mistaken(text); err != nil {
		return Token{}, err
	}
	whole, ok := strings.CutPrefix(text, tokenStart)
	if !ok {
		return parseShort(text)
	}
	digest, credentials, ok := strings.Cut(whole, "::")
	if !ok {
		return Token{}, fmt.Errorf("it has no \"::\" behind K10 and the digest: it was cut off after %d characters, or is a password that begins with K10", len(text))
	}
	digest, err := parseDigest(digest)
	if err != nil {
		return Token{}, err
	}
	t, err := parseCredentials(credentials)
	t.Digest = digest
	return t, err
}

// mistaken says what a text is that is no token at all.
func mistaken(text string) error {
	switch {
	case text == "":
		return errors.New("it is empty")
	case strings.HasPrefix(text, "-----BEGIN"):
		return errors.New("it is a PEM file, such as a key or a certificate")
	case strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") == 2:
		return errors.New("it is a service account's token, with which no machine joins")
	case !strings.HasPrefix(text, ServerUser+":") && strings.Contains(text, "://"):
		return errors.New("it is an address: name that with --server")
	case strings.HasPrefix(text, "/") && strings.HasSuffix(text, "token"): // a password may begin so, too
		return errors.New("it is a file's path: name that with --token-file")
	case strings.HasPrefix(text, "k10") && strings.Contains(text, "::"):
		return errors.New("it begins with a small k: all of it may have been turned to small letters")
	case !strings.HasPrefix(text, tokenStart) && !strings.HasPrefix(text, ServerUser+":") && strings.Contains(text, "::"):
		return errors.New("its beginning is missing: there is a \"::\", but no K10 in front")
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }); i >= 0 {
		return fmt.Errorf("there is a space or a line break behind character %d", i)
	}
	return nil
}

func parseDigest(digest string) (string, error) {
	if digest == "" {
		return "", errors.New("there is no digest between K10 and \"::\"")
	}
	digest = strings.ToLower(digest)
	if i := strings.IndexFunc(digest, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }); i >= 0 {
		return "", fmt.Errorf("character %d of the digest behind K10 is not a hexadecimal digit", i+1)
	}
	if len(digest) != 64 {
		return "", fmt.Errorf("the digest behind K10 has %d digits, it should have 64", len(digest))
	}
	return digest, nil
}

// parseShort reads a token that lacks the digest. It takes for a bootstrap token
// what begins as one: a mistyped one is told from a password that way.
func parseShort(text string) (Token, error) {
	if password, ok := strings.CutPrefix(text, ServerUser+":"); ok {
		return parsePassword(password)
	}
	if id, _, ok := strings.Cut(text, "."); ok && len(id) == idLength && wrongLetter(id) < 0 {
		return parseBootstrap(text)
	}
	return parsePassword(text)
}

// parseCredentials reads what is behind the "::".
func parseCredentials(text string) (Token, error) {
	if text == "" {
		return Token{}, errors.New("there is nothing behind \"::\": its end is missing")
	}
	user, password, ok := strings.Cut(text, ":")
	if !ok {
		return parseBootstrap(text)
	}
	if user != ServerUser {
		return Token{}, fmt.Errorf("behind \"::\" there is the user %q, it should be %s, or an ID and a secret with a dot in between", user, ServerUser)
	}
	return parsePassword(password)
}

func parsePassword(password string) (Token, error) {
	if password == "" {
		return Token{}, errors.New("there is no password behind the last colon: its end is missing")
	}
	return Token{Password: password}, nil
}

func parseBootstrap(text string) (Token, error) {
	id, secret, ok := strings.Cut(text, ".")
	if !ok {
		return Token{}, errors.New("behind \"::\" there should be an ID and a secret with a dot in between, or server, a colon and a password")
	}
	for _, part := range []struct {
		name, text string
		length     int
	}{{"ID", id, idLength}, {"secret", secret, secretLength}} {
		if i := wrongLetter(part.text); i >= 0 {
			return Token{}, fmt.Errorf("character %d of its %s is not one of a-z and 0-9", i+1, part.name)
		}
		switch {
		case len(part.text) < part.length:
			return Token{}, fmt.Errorf("its %s is too short: %d of %d characters", part.name, len(part.text), part.length)
		case len(part.text) > part.length:
			return Token{}, fmt.Errorf("its %s is too long: %d characters instead of %d", part.name, len(part.text), part.length)
		}
	}
	return Token{ID: id, Secret: secret}, nil
}

// wrongLetter returns where a character is that bootstrap tokens do not have, -1
// if there is none.
func wrongLetter(text string) int {
	return strings.IndexFunc(text, func(r rune) bool { return !strings.ContainsRune(tokenLetters, r) })
}

// ParseBearer reads the id.secret of a bootstrap token and nothing else.
func ParseBearer(text string) (Token, bool) {
	if len(text) != idLength+1+secretLength || text[idLength] != '.' {
		return Token{}, false
	}
	t, err := parseBootstrap(text)
	return t, err == nil
}

// ValidTokenID says whether a text can be a bootstrap token's ID.
func ValidTokenID(text string) bool { return len(text) == idLength && wrongLetter(text) < 0 }
