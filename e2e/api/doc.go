// Package api tests a whole control plane in this process with the clients that
// people use: store, state, authentication, API and HTTP over TLS on the
// loopback, driven by client-go. It needs no root.
//
// A plane is such a control plane; it can be crashed and started again. The
// invariant: nothing in it is a stand-in, but for the nodes' own API, which
// another machine would serve.
package api
