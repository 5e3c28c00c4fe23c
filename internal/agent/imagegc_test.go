package agent

import (
	"slices"
	"testing"
	"time"
)

func TestImagesToRemove(t *testing.T) {
	now := time.Unix(100_000, 0)
	var u imageUses
	image := func(id string, kept bool) Image { return Image{ID: id, Size: 100, Kept: kept} }
	old := []Image{image("old", false), image("older", false), image("used", false), image("pinned", true), image("never used", false)}
	u.see(old, map[string]bool{"older": true, "used": true}, now.Add(-3*time.Hour))
	u.see(old, map[string]bool{"old": true, "used": true}, now.Add(-2*time.Hour))
	all := append(old, image("fresh", false))
	used := map[string]bool{"used": true}
	u.see(all, used, now)
	for bytes, want := range map[int64][]string{
		0: nil, 1: {"never used"}, 150: {"never used", "older"}, allImages: {"never used", "older", "old"},
	} {
		var got []string
		for _, i := range u.choose(all, used, now, 2*time.Minute, bytes) {
			got = append(got, i.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("for %d bytes %q, want %q", bytes, got, want)
		}
	}
	u.see(nil, nil, now)
	if len(u.first)+len(u.last) > 0 {
		t.Error("what is gone is not forgotten")
	}
}

func TestTooMuch(t *testing.T) {
	for available, want := range map[int64]int64{50: 0, 16: 0, 15: 5, 10: 10, 0: 20} {
		if got := tooMuch(Room{Available: available, Capacity: 100}, 85, 80); got != want {
			t.Errorf("with %d of 100 free: %d, want %d", available, got, want)
		}
	}
}
