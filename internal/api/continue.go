package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

const (
	tokenVersion = "meta.k8s.io/v1"
	// inconsistent marks a token that goes on at whatever revision there is.
	inconsistent store.Revision = -1
)

// Texts of the answers to a token or revision that is too old.
const (
	textExpired      = "The resourceVersion for the provided list is too old."
	textInconsistent = "The provided continue parameter is too old " +
		"to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to " +
		"retrieve the remainder of the results. Continuing with the provided " +
		"token results in an inconsistent list - objects that were created, " +
		"modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list."
)

// continuation is where a list goes on: the form is upstream's, so that what
// knows it from there can read it.
type continuation struct {
	Version  string         `json:"v"`
	Revision store.Revision `json:"rv"`
	Start    string         `json:"start"` // the last key seen, and a zero byte
}

func (c continuation) token() string {
	c.Version = tokenVersion
	data, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Errorf("encode continue token: %w", err)) // two strings and a number
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// after returns the key that the list goes on behind, as a Snapshot wants it.
func (c continuation) after() string { return strings.TrimSuffix(c.Start, "\x00") }

func parseContinue(token string) (continuation, error) {
	c, err := decodeContinue(token)
	if err != nil {
		return c, apierrors.NewBadRequest(fmt.Sprintf("invalid continue token: %v", err))
	}
	return c, nil
}

func decodeContinue(token string) (continuation, error) {
	var c continuation
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return c, fmt.Errorf("continue key is not valid: %w", err)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("continue key is not valid: %w", err)
	}
	if c.Version != tokenVersion {
		return c, fmt.Errorf("continue key is not valid: server does not recognize this encoded version %v", c.Version)
	}
	if c.Revision == 0 {
		return c, errors.New("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
	}
	if c.Start == "" {
		return c, errors.New("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")
	}
	if key := c.after(); path.Clean("/"+key) != "/"+key {
		return c, fmt.Errorf("continue key is not valid: %s", c.Start)
	}
	return c, nil
}

// expiredContinue is the answer to a token whose revision is not kept any
// more; it carries one that goes on without consistency.
func expiredContinue(c continuation) error {
	err := apierrors.NewResourceExpired(textInconsistent)
	c.Revision = inconsistent
	err.ErrStatus.ListMeta.Continue = c.token()
	return err
}

// listKey is the key by which lists are ordered.
func listKey(obj kind.Object) string {
	if ns := obj.GetNamespace(); ns != "" {
		return ns + "/" + obj.GetName()
	}
	return obj.GetName()
}
