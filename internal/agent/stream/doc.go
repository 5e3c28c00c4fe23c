// Package stream carries the streams of containers: their logs, and the
// connections of exec, attach and port-forward.
//
// Logs are files in the CRI format, which the runtime writes. Copy sends one to
// a reader, following it by inotify across rotation; a Rotator keeps each from
// growing without end. ServeExec, ServeAttach and ServePortForward speak SPDY
// (with the Kubernetes libraries) and WebSocket (v5 and v4 of channel.k8s.io
// are our own) and hand plain readers and writers to a Backend.
//
// The package knows containers by paths and names only, asks nobody whether
// they may do what they ask for, and never polls.
package stream
