package config

import "time"

// Store are the settings of the cluster's store. A window is how long a write
// that may wait stays in memory before it is on disk, and so what a crash may
// lose; 0 makes such writes durable at once.
type Store struct {
	LazyWindow   time.Duration // of Leases and of nodes' heartbeats
	EventsWindow time.Duration
}

func defaultStore() Store {
	// Events matter most after a crash.
	return Store{LazyWindow: 10 * time.Minute, EventsWindow: time.Minute}
}

func (s *Store) settings() []Setting {
	return []Setting{
		{"store-lazy-window", "how long renewals of Leases and heartbeats of nodes may wait for the disk (0: not at all)", durationValue(&s.LazyWindow)},
		{"store-events-window", "how long Events may wait for the disk (0: not at all)", durationValue(&s.EventsWindow)},
	}
}
