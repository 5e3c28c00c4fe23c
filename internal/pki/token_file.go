package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// The files of the server's own token. People who come from k3s look for the
// second, which is a link to the first.
const (
	tokenFile     = "token"
	nodeTokenLink = "node-token"
)

// leastPassword is how short a password may be that a person chooses: it lets
// every machine join that guesses it.
const leastPassword = 8

// Token returns the server's own token, whose file (0600) is made on first use.
// The file always names the authority of now. A password that is given replaces
// the one in it; without one the file's is kept.
func (f *Files) Token(authority []byte, given string) (Token, error) {
	have, err := f.readToken()
	t := Token{Digest: Digest(authority), Password: have.Password}
	switch {
	case given != "":
		if t.Password, err = chosenPassword(authority, given); err != nil {
			return Token{}, err
		}
	case errors.Is(err, fs.ErrNotExist):
		t.Password = randomText(passwordLength)
	case err != nil:
		return Token{}, err
	}
	if have != t {
		if err := f.writeFile(tokenFile, []byte(t.Text()+"\n")); err != nil {
			return Token{}, fmt.Errorf("write the server's token: %w", err)
		}
	}
	return t, errors.Join(f.hideToken(), f.linkToken())
}

// hideToken takes from others what rights a copy from elsewhere gave them.
func (f *Files) hideToken() error {
	info, err := os.Stat(f.path(tokenFile))
	if err == nil && info.Mode().Perm() != 0o600 {
		err = os.Chmod(f.path(tokenFile), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the server's token from others: %w", err)
	}
	return nil
}

// readToken reads the file as it is.
func (f *Files) readToken() (Token, error) {
	data, err := os.ReadFile(f.path(tokenFile))
	if err != nil {
		return Token{}, err
	}
	t, err := ParseToken(string(data))
	if err == nil && t.Password == "" {
		err = errors.New("it is not a server's own token")
	}
	if err != nil {
		return Token{}, fmt.Errorf("%s is damaged (%w): remove it and a new one is made", f.path(tokenFile), err)
	}
	return t, nil
}

// chosenPassword reads what a person set as the server's token.
func chosenPassword(authority []byte, given string) (string, error) {
	t, err := ParseToken(given)
	switch {
	case err != nil:
		return "", err
	case t.Password == "":
		return "", errors.New("the server's own token cannot be a bootstrap token: set a password")
	case len(t.Password) < leastPassword:
		return "", fmt.Errorf("the server's token is too short: whoever guesses it can join; take at least %d characters", leastPassword)
	case t.Digest != "" && t.Verify(authority) != nil:
		return "", errors.New("the server's token is of a cluster with another certificate authority: set only what follows \"server:\" in it")
	}
	return t.Password, nil
}

// linkToken makes the link. A file system that has none does without.
func (f *Files) linkToken() error {
	path := f.path(nodeTokenLink)
	if target, err := os.Readlink(path); err == nil && target == tokenFile {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace the link to the server's token: %w", err)
	}
	err := os.Symlink(tokenFile, path)
	if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("link to the server's token: %w", err)
	}
	return nil
}
