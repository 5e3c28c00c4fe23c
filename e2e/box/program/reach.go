package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// much is how many bytes reach sends through one connection.
const much = 4 << 20

// datagrams are the sizes that reach sends: one that fits anywhere, what fits
// into a packet of 1,450 and of 1,500 bytes, and one that goes in pieces.
var datagrams = []int{16, 1422, 1472, 4000}

// echo gives back on TCP 8082 what it gets.
func echo() error {
	l, err := net.Listen("tcp4", ":8082")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return nil
}

// reach sends much to each host and back, and datagrams of several sizes, and
// prints a line for each. All are tried; the error names those not reached.
func reach(hosts []string) error {
	var errs []error
	for _, host := range hosts {
		if host == "" {
			continue
		}
		begin := time.Now()
		err := stream(host + ":8082")
		took := time.Since(begin).Round(time.Millisecond)
		for _, size := range datagrams {
			if err == nil {
				err = datagram(host+":8081", size)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", host, err))
			continue
		}
		fmt.Printf("%s reached, %d bytes and back in %v\n", host, much, took)
	}
	return errors.Join(errs...)
}

func stream(address string) error {
	c, err := net.DialTimeout("tcp4", address, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	sent := pattern(much)
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		written <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		return fmt.Errorf("stream: %w after %d bytes", err, len(got))
	}
	if err := <-written; err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("stream: %d bytes came back, not those that were sent", len(got))
	}
	return nil
}

// datagram asks up to five times, since datagrams may be lost.
func datagram(address string, size int) error {
	c, err := net.Dial("udp4", address)
	if err != nil {
		return err
	}
	defer c.Close()
	sent := strings.Repeat("x", size)
	buf := make([]byte, 1<<16)
	for range 5 {
		if _, err = c.Write([]byte(sent)); err != nil {
			continue
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		var n int
		if n, err = c.Read(buf); err == nil && strings.HasSuffix(string(buf[:n]), " "+sent) {
			return nil
		}
	}
	return fmt.Errorf("datagram of %d bytes: %w", size, err)
}

func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}
