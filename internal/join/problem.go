package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
)

// Problem is what stands between a machine and its membership, and what to do.
type Problem struct {
	What error
	Do   string
	// Waits: it may pass by itself, or by what someone does on another machine.
	// Least is how long to wait then at least.
	Waits bool
	Least time.Duration
	// Denied: the cluster refuses a certificate as it was asked for.
	Denied bool
	// Replaced: the node's name is another machine's by now.
	Replaced bool
}

func (p *Problem) Error() string {
	if p.Do == "" {
		return p.What.Error()
	}
	return p.What.Error() + ": " + p.Do
}

func (p *Problem) Unwrap() error { return p.What }

// waits says whether waiting can help: with one of several servers is enough.
func waits(err error) bool {
	switch e := err.(type) {
	case *Problem:
		return e.Waits
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if waits(one) {
				return true
			}
		}
	case interface{ Unwrap() error }:
		return waits(e.Unwrap())
	}
	return false
}

// What a person has to put right on this machine.

func noToken(why string) error {
	return &Problem{What: errors.New(why),
		Do: "give the agent a token, with --token, --token-file or " + config.EnvironmentPrefix + "TOKEN; skiff token create on a server makes one"}
}

func noDigest() error {
	return &Problem{What: errors.New("the token does not say which cluster to trust, and whoever answers in its place would get it"),
		Do: "use the whole token, which begins with K10: skiff token create on a server prints one, and the server's own is in DATA-DIR/server/token there"}
}

func refuseServer(host config.Host) error {
	_, err := os.Stat(host.StorePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a server's data: %w", err)
	}
	return &Problem{What: fmt.Errorf("%s is a server's data directory, and a server has a node of its own", host.DataDir),
		Do: "run skiff server, or name another directory with --data-dir"}
}

// RefuseMember refuses to run a server where an agent keeps its membership: the
// node's name would be taken with the key of another cluster.
func RefuseMember(host config.Host) error {
	d := NewDirectory(host)
	_, err := os.Stat(filepath.Join(d.tls, authorityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for an agent's membership: %w", err)
	}
	return &Problem{What: fmt.Errorf("%s is the data directory of an agent that has joined a cluster", host.DataDir),
		Do: "run skiff agent, or name another directory with --data-dir; to make this machine a server, take it out of that cluster with skiff leave (or remove " + d.tls + " if the cluster is gone)"}
}

func otherCluster(d *Directory) error {
	return &Problem{What: fmt.Errorf("the token is of another cluster than the one this machine has joined (%s)", filepath.Join(d.tls, authorityFile)),
		Do: "leave the old one first (skiff leave, or remove " + d.tls + " and " + d.cluster() + " if it is gone), name another --data-dir, or take out the token"}
}

// lostKey: without the key that the cluster knows, the name is another's.
func lostKey(d *Directory, err error) error {
	return &Problem{What: err, // which says to restore it
		Do: "or remove " + d.tls + ", free the node's name with kubectl delete node, and join anew with a token"}
}

func lostAuthority(d *Directory) error {
	return &Problem{What: fmt.Errorf("%s is damaged: there is not one certificate in it", filepath.Join(d.tls, authorityFile)),
		Do: "remove it and start the agent with a token: the node's key and name stay"}
}

// nameTaken is the reason for which the cluster gives no certificate, and does not
// take one, of a node whose name is another machine's.
const nameTaken = "NodeNameTaken"

// What servers answer.

// strange is a server that is none, or not this cluster's.
func strange(server string, err error) error {
	return &Problem{What: fmt.Errorf("%s: %w", server, err),
		Do: "check --server, and what answers there"}
}

func busy(server, status string) error {
	return &Problem{What: fmt.Errorf("%s answers %s", server, status), Do: "look at the server's log, unless it is just starting", Waits: true}
}

func otherAuthority(server string, err error) error {
	return &Problem{What: fmt.Errorf("%s: %w", server, err),
		Do: "either the token is another cluster's (skiff token create on this one's server makes one), or someone stands in between: nothing secret was sent"}
}

// refusedToken is an answer to who asks with a token. It may say why, and then
// also what to do.
func refusedToken(token pki.Token, err error) error {
	_, why, told := strings.Cut(messageOf(err), token.String()+" ")
	switch {
	case told:
		return &Problem{What: fmt.Errorf("the server does not take the token: %s %s", token, why)}
	case apierrors.IsForbidden(err):
		return &Problem{What: err, Do: "look at the token's groups on the server, or make a new one with skiff token create there"}
	case token.ID == "":
		return &Problem{What: errors.New("the server does not take the token: its password is another"),
			Do: "read DATA-DIR/server/token on the server again, or make a new one with skiff token create there"}
	}
	return &Problem{What: fmt.Errorf("the server does not take %s", token), Do: "make a new one with skiff token create on a server"}
}

// messageOf returns what a server says of an error.
func messageOf(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Message
	}
	return err.Error()
}

// refusedNode is an answer to who asks with a node's certificate.
func refusedNode(err error) error {
	if message := messageOf(err); strings.HasPrefix(message, nameTaken) {
		return &Problem{What: errors.New(message), Replaced: true} // which says what to do
	}
	return &Problem{What: fmt.Errorf("the server does not take this node's certificate: %w", err),
		Do:    "look at the server's log and at both clocks; if the cluster was made anew, join it anew with its token",
		Waits: true, Least: time.Minute}
}

func denied(reason, message string) error {
	return &Problem{What: fmt.Errorf("the cluster refuses this node: %s: %s", reason, message),
		Do:    "it is asked again in a minute",
		Waits: true, Least: time.Minute}
}

func undecided(request string) error {
	return &Problem{What: fmt.Errorf("the certificate request %s is neither approved nor denied", request),
		Do: "look at the server's log, or decide it with kubectl certificate approve", Waits: true}
}

func badCertificate(request string, err error) error {
	return &Problem{What: fmt.Errorf("the certificate for the request %s is of no use: %w", request, err),
		Do: "look at the server's log and at both clocks", Waits: true, Least: time.Minute}
}

// explainToNode is explain for requests that carry a node's certificate.
func explainToNode(err error) error {
	if apierrors.IsUnauthorized(err) {
		return refusedNode(err)
	}
	return explain(err)
}

// explain says what an error of a request means that was sent through an uplink.
func explain(err error) error {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) { // each server failed in its own way
		var all problems
		for _, one := range several.Unwrap() {
			all = append(all, explain(one))
		}
		return all.join()
	}
	if p := new(Problem); errors.As(err, &p) || errors.Is(err, context.Canceled) {
		return err
	}
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err // the URL is that of the first server, whoever answered
	}
	return explainOne(err)
}

func explainOne(err error) error {
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		status  apierrors.APIStatus
	)
	switch {
	case errors.As(err, &name):
		return &Problem{What: err, Do: fmt.Sprintf("name the server by one of these with --server, or start it with --tls-san %s", name.Host)}
	case errors.As(err, &unknown):
		return &Problem{What: err, Do: "the certificate is not this cluster's: check --server, and what stands in between"}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &Problem{What: err, Do: "it is tried again", Waits: true} // the clock has said what to do
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return &Problem{What: err, Do: "nothing speaks TLS there: check the port of --server"}
	case apierrors.IsForbidden(err):
		return &Problem{What: err, Do: "the cluster does not let this machine do what joining takes: look at the token's groups on the server", Waits: true, Least: time.Minute}
	case errors.As(err, &status):
		return &Problem{What: err, Do: "the server has trouble: look at its log", Waits: true}
	}
	return &Problem{What: err, Do: "start the server, or check --server, the network and firewalls in between: TCP to this port is all it takes", Waits: true}
}

// problems are those of several servers.
type problems []error

func (p problems) join() error {
	if len(p) == 1 {
		return p[0]
	}
	return errors.Join(p...)
}

// advice is what to do, of all problems in an error; it is the same as long as
// nothing new has happened.
func advice(err error) string {
	switch e := err.(type) {
	case *Problem:
		return e.Do
	case interface{ Unwrap() []error }:
		var all []string
		for _, one := range e.Unwrap() {
			all = append(all, advice(one))
		}
		return strings.Join(all, "\n")
	case interface{ Unwrap() error }:
		return advice(e.Unwrap())
	}
	return ""
}
