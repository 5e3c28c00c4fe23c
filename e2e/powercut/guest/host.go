package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// host is who reads the other end of the port.
type host struct {
	port *os.File
	mu   sync.Mutex // makes a line one write
}

// tell returns when the machine around this one has taken the line.
func (h *host) tell(format string, args ...any) {
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ") + "\n"
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.port.WriteString(line); err != nil {
		fmt.Println("guest: tell the host:", err)
	}
}

// tellAll is tell for many lines at once.
func (h *host) tellAll(lines []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.port.Write(lines); err != nil {
		fmt.Println("guest: tell the host:", err)
	}
}
