package embed

import "io"

// HelloImage is the name of the image that Hello returns.
const HelloImage = "docker.io/skiff/hello:1"

// Hello returns the hello image as an OCI archive.
func Hello() (io.ReadCloser, error) {
	return open("hello")
}
