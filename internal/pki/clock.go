package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Clock judges time for certificates: by the latest time known to be past. A
// machine without a battery starts in 1970 or at its image's date, so no
// certificate has a beginning that a clock could miss, and what this machine's
// clock shows is one witness of several:
//
//   - The build's date is past, and what Past holds: on a node the latest time
//     that a server has told, on a server the latest its own clock has shown. Time
//     that went by since counts too.
//   - A clock that something keeps right (NTP; see Kept) is the time, against all
//     others: a node that was once told a time in the future, or a server whose
//     clock once showed one, is well again as soon as its clock is.
//   - A clock that nothing keeps counts where there is no Past, and on a server,
//     whose clock is the cluster's, unless by it the cluster's authority has ended.
//     On a node it counts for nothing: one that is years ahead is not kept out of
//     the cluster by a certificate that only it calls ended.
type Clock struct {
	Now   func() time.Time // this machine's clock
	Build time.Time        // when this build was made
	Past  *Past            // optional: what else is known to be past
	// Kept is optional: it says whether something keeps this machine's clock right.
	Kept func() bool
}

// OpenClock returns the clock of a node, which keeps in a file the latest time
// that a server has told.
func OpenClock(file string, build time.Time) (Clock, error) {
	past, err := OpenPast(file)
	return Clock{Now: time.Now, Build: build, Past: past, Kept: kept}, err
}

// OpenServerClock returns the clock of a server, which keeps in a file the latest
// time that it has shown.
func OpenServerClock(file string, build time.Time) (Clock, error) {
	c, err := OpenClock(file, build)
	if err == nil {
		c.Past.own = true
	}
	return c, err
}

// Alone returns the clock without its Past.
func (c Clock) Alone() Clock {
	c.Past = nil
	return c
}

// Latest returns the latest time known to be past.
func (c Clock) Latest() time.Time {
	now := c.Now().Round(0) // a monotonic reading would hide that it was set
	switch {
	case c.kept():
		c.Past.show(now)
		return later(now, c.Build)
	case !c.Past.trusts(now):
		return c.known()
	}
	c.Past.show(now)
	return later(now, c.known())
}

// known is what is past whatever this machine's clock shows.
func (c Clock) known() time.Time { return later(c.Build, c.Past.Time()) }

func (c Clock) kept() bool { return c.Kept != nil && c.Kept() }

// Slow says that this machine's clock shows a time that is long past. How late it
// really is, nobody knows then.
func (c Clock) Slow() bool {
	return !c.kept() && c.Now().Round(0).Before(c.known().Add(-day))
}

// Jumped returns a channel that is closed when time turns out to be another than
// it was thought to be: by a server's word, or since the clock was set.
func (c Clock) Jumped() <-chan struct{} { return c.Past.jumps() }

// Explain adds to the error of a TLS handshake, when it is that the other side's
// certificate has ended, by whose account that is so and what to do.
func (c Clock) Explain(err error) error {
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired || invalid.Cert == nil {
		return err
	}
	return fmt.Errorf("%w: the certificate of %s ended on %s, and it is %s by %s", err,
		invalid.Cert.Subject.CommonName, invalid.Cert.NotAfter.Format(time.DateOnly), c.Latest().Format(time.DateOnly), c.witness())
}

// witness names what Latest goes by, and what to do if it is wrong.
func (c Clock) witness() string {
	now := c.Now().Round(0)
	switch {
	case c.kept(), c.Past.trusts(now) && now.After(c.known()):
		return "this machine's clock: set it if that is wrong; if not, restart the server, which renews its certificate"
	case c.Past.Time().After(c.Build):
		return fmt.Sprintf("what a server has told before: if that was wrong, remove %s and start anew; if not, restart the server, which renews its certificate", c.Past.file)
	}
	return "the date of this build: restart the server, which renews its certificate"
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
