package bearer

import (
	"context"
	"errors"
	"fmt"
)

// Ready says what keeps this issuer's tokens from being judged, nil when nothing does:
// its metadata and its keys are looked up as for a token. It is for an operator who
// looks, not for requests.
func (i *Issuer) Ready(ctx context.Context) error {
	if i.answers != nil {
		return nil // the first token shows whether our client is known there
	}
	keys, err := i.keySet(ctx)
	if err != nil {
		return err
	}
	n, err := keys.Count(ctx)
	if err == nil && n == 0 {
		err = unavailable("jwks.empty", fmt.Errorf("reading the keys of %s: %w", i.issuer, errors.New("none is usable")))
	}
	return err
}
