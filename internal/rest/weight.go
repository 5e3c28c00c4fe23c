package rest

import (
	"bytes"
	"fmt"

	"k8s.io/apimachinery/pkg/api/errors"
)

// What a body takes in memory until its request ends, at the worst: three bytes can
// be a container, with what is said of it when it is checked.
const (
	weightOfByte   = 4
	weightOfObject = 2 << 10
	weightOfValue  = 256
	// weightOfAliases is what a document of any size can make of them: the parser
	// gives up not much later.
	weightOfAliases = 48 << 20
	// lightBody is a body that is not looked at.
	lightBody = 4 << 10
	// heavyBody is a weight from which bodies keep a core busy for long.
	heavyBody = 2 << 20
)

// weigh estimates what decoding a body and checking its object takes. It counts what
// looks like a value in any of the formats, in texts too where it cannot tell.
func weigh(data []byte, m media) int64 {
	if m == mediaYAML && bytes.IndexByte(data, '*') >= 0 && bytes.IndexByte(data, '&') >= 0 {
		return weightOfAliases + weightOfByte*int64(len(data))
	}
	if len(data) <= lightBody {
		return 0
	}
	var objects, values int
	switch m {
	case mediaJSON:
		objects, values = countJSON(data)
	case mediaYAML:
		// What begins a node: each costs its own, its parser's event, and what it is in JSON.
		objects = bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("{"))
		values = 4 * (bytes.Count(data, []byte(",")) + bytes.Count(data, []byte("[")) + bytes.Count(data, []byte(": ")) + bytes.Count(data, []byte("- ")))
	case mediaProtobuf:
		objects = emptyMessages(data)
	}
	return weightOfByte*int64(len(data)) + weightOfObject*int64(objects) + weightOfValue*int64(values)
}

// countJSON counts objects, and values that another follows or that are in a list.
func countJSON(data []byte) (objects, values int) {
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{':
			objects++
		case ',', '[':
			values++
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		}
	}
	return objects, values
}

// emptyMessages counts in a protobuf body what can be messages of a few bytes: a tag
// of a length-delimited field and a length below eight.
func emptyMessages(data []byte) (n int) {
	for i := 0; i+1 < len(data); i++ {
		if data[i]&7 == 2 && data[i] < 0x80 && data[i+1] < 8 && i+2+int(data[i+1]) <= len(data) {
			n++
			i += 1 + int(data[i+1])
		}
	}
	return n
}

// tooHeavy is the answer to a body that would take more than the server has.
func tooHeavy(weight, limit int64) error {
	return errors.NewRequestEntityTooLargeError(fmt.Sprintf(
		"it holds too many values (about %d MiB in memory, %d are the limit): split it up", weight>>20, limit>>20))
}

// maxJSONPatch is how many operations a JSON patch may have, upstream's limit.
const maxJSONPatch = 10_000

// countOperations counts the elements of a JSON list without decoding them.
func countOperations(data []byte) (n int) {
	depth, empty := 0, true
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '[', '{':
			if depth == 1 {
				empty = false
			}
			depth++
		case ']', '}':
			depth--
		case ',':
			if depth == 1 {
				n++
			}
		case '"':
			empty = empty && depth != 1
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case ' ', '\t', '\r', '\n':
		default:
			empty = empty && depth != 1
		}
	}
	if empty {
		return n
	}
	return n + 1
}
