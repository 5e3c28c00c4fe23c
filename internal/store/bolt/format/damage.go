package format

import (
	"errors"
	"fmt"

	"github.com/skiff-sh/skiff/internal/store"
)

// GoOn ends every message about damage: what someone does who reads it.
const GoOn = "run `skiff store check` to see what is lost, then `skiff snapshot restore` or `skiff store salvage`"

// damageError is an ErrDamaged that says of what, and what to do.
type damageError struct{ store.Damage }

func (e *damageError) Error() string {
	return fmt.Sprintf("%v: %v; %s", store.ErrDamaged, e.Damage, GoOn)
}

func (e *damageError) Unwrap() error { return store.ErrDamaged }

// Damaged is the ErrDamaged for what is not as it was written.
func Damaged(d store.Damage) error { return &damageError{d} }

func damaged(key store.Key, reason string) error {
	return Damaged(store.Damage{Key: key, Reason: reason})
}

// Reason returns what an error says is wrong, without of what and what to do.
func Reason(err error) string {
	var damage *damageError
	if errors.As(err, &damage) {
		return damage.Reason
	}
	return err.Error()
}
