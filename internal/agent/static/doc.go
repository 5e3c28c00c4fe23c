// Package static reads the Pods that lie as files in a directory of the node: those
// run whether a server answers or not.
//
// Read makes Pods of a file, Dir reads and watches a directory. A Pod's UID is a digest
// of what its file says, so that another content is another Pod and the same content
// the same Pod after a restart. The package never runs a Pod and knows no API server.
package static
