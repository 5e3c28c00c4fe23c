// Package certificate issues certificates to those who ask for one with a
// CertificateSigningRequest.
//
// New returns the controller. A question is one undecided request with all that
// bears on it; decide is the plan. A nodeKey is what is remembered of a node
// that has joined. The invariant: nobody gets a certificate of a node that is not
// theirs, nor one for a name or address at which somebody else answers. It never
// decides about other signers than the three that it signs for itself, and never
// makes a key.
//
// # How a certificate is issued
//
// A client makes a key, which never leaves it, and creates a request with what
// the certificate is to say, signed with that key. Then:
//
//	kind/certificatesigningrequest_check.go  the signature is good, the usages exist
//	api/requester.go                         who asks goes into the spec
//	admission/certificate.go                 a node asks in its own name alone; nobody asks to be a master
//	client.go, serving.go                    decide: approve, deny, or leave it to a person
//	certificate.go                           claim: a token that works once is spent …
//	nodekey.go                               … and the key remembered, before it is approved
//	issue.go                                 check the form, sign, write status.certificate
//	clean.go                                 when the request itself is deleted
//
// A person decides with kubectl certificate approve|deny, for which admission
// demands the right "approve" on the signer. Requests to
// kubernetes.io/kube-apiserver-client are always left to a person. An approval by
// hand is not questioned: only the form of a request is checked again.
//
// Certificates begin in 1970, before any clock's time, and end a year (or
// spec.expirationSeconds) after the latest time known to be past, but never after
// the authority.
//
// # Whose is the name of a node
//
// Whoever may join could ask for the certificate of a node that is there already.
// So the first key that a name is given to is remembered in the Secret
// kube-system/NAME.node-key.skiff, with the certificates that were issued to it.
// From then on a newcomer has the name only with the same key, and the node itself
// (who proves with its certificate that it is) may bring a new one. The Secret
// belongs to the Node, so that deleting the Node frees the name. A name is refused
// as well where a Node has it that no key is remembered of, and where the API
// server or the cluster's DNS goes by it.
//
// A certificate cannot be revoked. But one that was issued before the Node was
// deleted is not among those that are remembered when somebody else has got the
// name since: it brings no further certificates, neither of the name nor for the
// new node's addresses, and package auth believes it no more. The server's own node
// has its certificates from the server itself; nothing is remembered of it, and its
// name is nobody's to ask for.
//
// # What a node may serve as
//
// A certificate for serving is worth something to a thief, who has a node's key,
// where somebody takes him for another. Those who believe in the cluster's
// authority are the API server, which knows a node by its name (exec, logs and what
// goes in and out of them), and nodes, Pods and people, who know the API server by
// all that it is called. A node writes its own status, so what that says is no
// proof of anything. So these are denied, whatever the Node lists:
//
//   - every name and address in the API server's own certificate: whoever had one
//     of them would be the API server for the whole cluster. It has all that
//     clients call it by (advertised, Service and own addresses, tls-san).
//   - names that the cluster's DNS answers, and addresses of Pods and Services:
//     no node has any of them, but Pods ask for them.
//   - a name or address of another Node: its exec sessions would be to be had.
//   - what is not one machine's: multicast, link-local, wildcards.
//
// What is left is approved if it is the node's name, an address that its Node lists,
// or, as long as there is no Node, any address; the last because a node needs its
// certificate before it can register. An address that a Node that exists does not
// list waits until it does. Any other DNS name is left to a person: it may be the
// name of a node that is yet to come. For addresses that risk is taken, and it is
// what a thief has left: he can collect certificates for addresses that nobody has
// yet, and be the API server there if that moves to one of them later.
//
// localhost and loopback addresses are the node's own on itself, and the API
// server's on its machine: they pass beside another of the node's own names, never
// alone, for then nothing but the API server can be meant.
package certificate
