package oidc

import (
	"context"
	"errors"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// A provider that is slow may have used the refresh token up without our hearing what comes after it. Whoever asked has to see
// that in the error: the token is not shown again soon, and its refusal later says nothing of the person.
func TestRefreshInTimeOrUnsure(t *testing.T) {
	t.Parallel()
	r := newRig(t, hasty)
	who := r.accepts(t)
	_, err := r.again(t, who, idptest.Hang(idptest.AtToken))
	if !errors.Is(err, identity.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer in time is %v, which does not say that it was cut off", err)
	}
	if _, err = r.again(t, who, idptest.Status(idptest.AtToken, 503)); !errors.Is(err, identity.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an answer in time is %v", err)
	}
}
