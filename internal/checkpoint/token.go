package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"

	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// tokensQuestion is where tokens are remembered, by Pod and request.
const tokensQuestion question = "tokens"

// rememberedLife is how long a remembered token is said to live, in seconds:
// whoever gets it asks again that soon.
const rememberedLife = 60

// maxToken bounds the answer to a request for a token.
const maxToken = 1 << 20

func isTokenRequest(r *http.Request) bool {
	return r.Method == http.MethodPost && r.GetBody != nil &&
		strings.Contains(r.URL.Path, "/serviceaccounts/") && strings.HasSuffix(r.URL.Path, "/token")
}

// token gets a Pod its token, the last one it was given while no server answers.
func (c *Checkpoint) token(r *http.Request) (*http.Response, error) {
	name, err := tokenName(r)
	if err != nil {
		c.Log.Debug("a token is not remembered", zap.Error(err))
		return c.pass(r)
	}
	response, err := c.pass(r)
	switch {
	case r.Context().Err() != nil:
		return response, err
	case err == nil && response.StatusCode == http.StatusCreated:
		return c.rememberToken(name, response)
	case err == nil && answers(response):
		return response, nil
	}
	last := c.lastToken(name)
	if last == nil {
		return response, err
	}
	if err == nil {
		_ = response.Body.Close() // nobody reads it
	}
	return answer(r, http.StatusCreated, mediaProtobuf, io.NopCloser(bytes.NewReader(last))), nil
}

// tokenName is under what a token is remembered: NAMESPACE/POD/DIGEST, the last
// of all that was asked for.
func tokenName(r *http.Request) (string, error) {
	body, err := r.GetBody()
	if err != nil {
		return "", err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxToken))
	if err != nil {
		return "", err
	}
	request, _, err := decodeToken(text)
	if err != nil {
		return "", err
	}
	pod := request.Spec.BoundObjectRef
	if pod == nil || pod.Kind != "Pod" {
		return "", fmt.Errorf("token asked for at %s is for no Pod", r.URL.Path)
	}
	_, rest, _ := strings.Cut(r.URL.Path, "/namespaces/")
	namespace, _, _ := strings.Cut(rest, "/")
	digest := sha256.Sum256(append([]byte(r.URL.Path+"\n"), text...))
	return namespace + "/" + pod.Name + "/" + hex.EncodeToString(digest[:8]), nil
}

func decodeToken(text []byte) (request authenticationv1.TokenRequest, wrapped runtime.Unknown, err error) {
	if wrapped, err = decodeObject(text); err != nil {
		return request, wrapped, err
	}
	if err = request.Unmarshal(wrapped.Raw); err != nil {
		err = fmt.Errorf("read token: %w", err)
	}
	return request, wrapped, err
}

// rememberToken keeps what a server gave.
func (c *Checkpoint) rememberToken(name string, response *http.Response) (*http.Response, error) {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxToken))
	_ = response.Body.Close() // it has been read
	if err != nil {
		return nil, err
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	_, wrapped, err := decodeToken(text)
	if err != nil {
		c.Log.Debug("a token is not remembered", zap.Error(err))
		return response, nil
	}
	of := form{name: name, data: wrapped.Raw}
	of.sum, err = sumOf(&wrapped)
	if err != nil {
		return response, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.collect(tokensQuestion)
	k.apiVersion, k.kind, k.revision = wrapped.APIVersion, wrapped.Kind, "0"
	c.put(tokensQuestion, k, of)
	return response, nil
}

// lastToken returns the answer to a request for a token as it was the last time,
// or nil.
func (c *Checkpoint) lastToken(name string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known[tokensQuestion]
	if k == nil || k.objects[name] == nil {
		return nil
	}
	data, err := c.dataOf(k.objects[name])
	if err != nil {
		c.Log.Warn("a remembered token cannot be used", zap.String("token", name), zap.Error(err))
		return nil
	}
	var request authenticationv1.TokenRequest
	if err := request.Unmarshal(data); err != nil {
		c.Log.Warn("a remembered token cannot be used", zap.String("token", name), zap.Error(err))
		return nil
	}
	life := int64(rememberedLife)
	request.Spec.ExpirationSeconds = &life
	if data, err = request.Marshal(); err != nil {
		return nil
	}
	text, err := encodeObject(k.wire(data))
	if err != nil {
		return nil
	}
	return text
}
