package redis

import (
	"context"
	"errors"
)

// Skip is told of bytes in Redis that do not open, by their name there, which says nothing
// to a reader, and why; true passes over them. The error is the sealer's; nil when they open
// and are none of ours.
type Skip func(name string, sealed []byte, err error) bool

type skipKey struct{}

// Lenient makes a context in which Scan and Reseal ask skip about what does not open instead
// of failing: whoever can write to Redis could hold up with a few bytes whatever has to read
// all of it. It is for operations that tell a person what was passed over; nothing that
// decides who may do what may leave anything out.
func (s *Store) Lenient(ctx context.Context, skip func(name string, sealed []byte, err error) bool) context.Context {
	return context.WithValue(ctx, skipKey{}, Skip(skip))
}

var errShape = errors.New("it is none of ours")

// skips asks whether to pass over bytes that do not open.
func skips(ctx context.Context, name string, sealed []byte, err error) bool {
	skip, ok := ctx.Value(skipKey{}).(Skip)
	return ok && skip(name, sealed, err)
}

// passed says whether a value that does not open is to be passed over. What is behind it says
// the attempt to seal it anew, which opens everything that opens at all.
func (s *Store) passed(ctx context.Context, label string, v sealedValue) bool {
	if ctx.Value(skipKey{}) == nil || ctx.Err() != nil {
		return false
	}
	_, _, err := s.sealAnew(ctx, label+" "+v.name, v.b)
	return skips(ctx, v.name, v.b, err)
}
