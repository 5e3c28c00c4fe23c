package cgroup

import "math"

// weightOf is ceil(10^(l²/612 + 125·l/612 − 7/34)) with l = log2(shares), which
// takes 2 to 1, 1024 to 100 and 262144 to 10000.
func weightOf(shares uint64) uint64 {
	if shares <= 2 {
		return 1
	}
	if shares >= 262144 {
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612.0-7.0/34.0)))
}
