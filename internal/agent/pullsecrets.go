package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
)

// missing names the pull secrets that could not be read.
type missing []string

func (m missing) Error() string { return strings.Join(m, ", ") }

// pullCredentials returns what the Pod's pull secrets have for an image, in the order
// in which it is to be tried. It returns what it found also when some secrets are
// missing, and then says which.
func pullCredentials(ctx context.Context, pod *corev1.Pod, image string, from objects) ([]Credential, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, err
	}
	var ring keyring
	var lost missing
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue // the API lets them pass
		}
		secret, err := from.Secret(ctx, pod.Namespace, ref.Name)
		if err == nil {
			err = ring.add(secret)
		}
		if err != nil {
			lost = append(lost, ref.Name)
		}
	}
	out := ring.lookUp(named.Name())
	for i := range out {
		out[i].Registry = reference.Domain(named)
	}
	if len(lost) > 0 {
		return out, lost
	}
	return out, nil
}

// Marks are what an image is remembered by that was pulled with the credential: which
// it was, and whose, so that one that is changed in its Secret is still known.
func (c Credential) Marks() []string {
	mark := func(parts ...string) string {
		sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
		return hex.EncodeToString(sum[:16])
	}
	var marks []string
	if c.Username != "" || c.Password != "" || c.Token != "" {
		marks = append(marks, mark("credential", c.Username, c.Password, c.Token))
	}
	if c.Source != "" {
		marks = append(marks, mark("secret", c.Source))
	}
	return marks
}

// mayHave says whether a Pod may have an image that is present: one that came with
// somebody's credentials only if it has them too, as the registry would want it.
func mayHave(ctx context.Context, pod *corev1.Pod, ref string, image Image, from objects) bool {
	if len(image.Secrets) == 0 {
		return true
	}
	credentials, _ := pullCredentials(ctx, pod, ref, from) // whoever pulls tells of those that are missing
	return slices.ContainsFunc(credentials, func(c Credential) bool {
		return slices.ContainsFunc(c.Marks(), func(mark string) bool { return slices.Contains(image.Secrets, mark) })
	})
}

// keyring is credentials by what they are for: a registry, whose host may have
// wildcards, and perhaps the beginning of a path.
type keyring []key

type key struct {
	location string // such as *.example.org:5000/team
	Credential
}

// dockerConfig is the content of a pull secret.
type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// add puts what a secret has to the ring. A secret that is for something else has
// nothing.
func (k *keyring) add(secret *corev1.Secret) error {
	var config dockerConfig
	var err error
	if data := secret.Data[corev1.DockerConfigJsonKey]; secret.Type == corev1.SecretTypeDockerConfigJson && len(data) > 0 {
		err = json.Unmarshal(data, &config)
	} else if data := secret.Data[corev1.DockerConfigKey]; secret.Type == corev1.SecretTypeDockercfg && len(data) > 0 {
		err = json.Unmarshal(data, &config.Auths)
	}
	var found keyring
	for _, registry := range slices.Sorted(maps.Keys(config.Auths)) {
		c, e := config.Auths[registry].credential()
		c.Source, err = string(secret.UID), errors.Join(err, e)
		if location, ok := location(registry); ok {
			found = append(found, key{location, c})
		}
	}
	if err != nil {
		return fmt.Errorf("parse pull secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	*k = append(*k, found...)
	return nil
}

// credential is what an entry says: its field auth is base64 of username:password,
// with padding or not, and counts before them.
func (a dockerAuth) credential() (Credential, error) {
	c := Credential{Username: a.Username, Password: a.Password, Token: a.IdentityToken}
	if a.Auth == "" {
		return c, nil
	}
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(strings.TrimSpace(a.Auth), "=") {
		encoding = base64.StdEncoding
	}
	plain, err := encoding.DecodeString(a.Auth)
	if err != nil {
		return c, err
	}
	var ok bool
	if c.Username, c.Password, ok = strings.Cut(string(plain), ":"); !ok {
		return c, errors.New("unable to parse auth field, must be formatted as base64(username:password)")
	}
	return c, nil
}

// location takes the scheme off an entry's name, and the version of the API that old
// ones have.
func location(name string) (string, bool) {
	if !strings.HasPrefix(name, "https://") && !strings.HasPrefix(name, "http://") {
		name = "https://" + name
	}
	u, err := url.Parse(name)
	if err != nil {
		return "", false
	}
	below := u.Path
	if strings.HasPrefix(below, "/v1/") || strings.HasPrefix(below, "/v2/") {
		below = below[len("/v1"):]
	}
	if below == "/" {
		below = ""
	}
	return u.Host + below, true
}

// hub is how Docker's tools name Docker Hub where they keep passwords.
const hub = "index.docker.io"

// lookUp returns what fits a repository, such as docker.io/library/busybox: of what
// begins alike the longer first, of the same the earlier secret's. What is kept for
// Docker Hub by its old name is for its images where nothing else is.
func (k keyring) lookUp(repository string) []Credential {
	sorted := slices.Clone(k)
	slices.SortStableFunc(sorted, func(a, b key) int { return cmp.Compare(b.location, a.location) })
	fits := func(match func(location string) bool) (found []Credential) {
		for _, one := range sorted {
			if match(one.location) {
				found = append(found, one.Credential)
			}
		}
		return found
	}
	found := fits(func(location string) bool { return covers(location, repository) })
	if len(found) == 0 && strings.HasPrefix(repository, "docker.io/") {
		found = fits(func(location string) bool { return location == hub })
	}
	return found
}

// covers says whether a location has the repository in it: the port is the same, each
// part of the host between dots fits, with wildcards, and the path begins alike.
func covers(location, repository string) bool {
	l, err := url.Parse("https://" + location)
	r, err2 := url.Parse("https://" + repository)
	if err != nil || err2 != nil || !strings.HasPrefix(r.Path, l.Path) {
		return false
	}
	globs, port := hostParts(l.Host)
	parts, portWanted := hostParts(r.Host)
	if port != portWanted || len(globs) != len(parts) {
		return false
	}
	for i, glob := range globs {
		if ok, err := path.Match(glob, parts[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

// hostParts is not url.URL's Hostname: a host without a port may be in brackets.
func hostParts(host string) (parts []string, port string) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return strings.Split(name, "."), port
}
