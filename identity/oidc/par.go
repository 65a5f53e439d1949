package oidc

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
)

const maxRequestURI = 1024 // bytes

// pushed says whether the authorization request goes to the provider directly and
// the browser carries a reference to it only.
func (s *Source) pushed(p *provider) bool { return s.config.Request.PAR || p.parRequired }

// push sends the authorization request (RFC 9126, section 2) and gives the
// parameters that are left for the browser. Failures are of kind
// [identity.ErrUnavailable]: nothing of it is the person's doing.
func (s *Source) push(ctx context.Context, p *provider, form url.Values) (url.Values, error) {
	status, answer, err := s.post(ctx, p, p.parURL, form, false)
	if err != nil {
		if _, ours := errors.AsType[*identity.Failure](err); ours {
			return nil, err
		}
		for _, known := range []error{issuer.ErrType, issuer.ErrNotJSON, issuer.ErrTooBig} {
			if errors.Is(err, known) {
				return nil, fail(identity.ErrUnavailable, "par.malformed", known)
			}
		}
		return nil, fail(identity.ErrUnavailable, "par.unreachable", err)
	}
	code, _, _ := answer.String("error") // of another type it is no code we know
	switch {
	case code == "invalid_client", code == "unauthorized_client", status == http.StatusUnauthorized:
		return nil, fail(identity.ErrUnavailable, "par.client", errors.New("the provider does not accept our client authentication at its pushed authorization request endpoint"))
	case status != http.StatusCreated:
		return nil, fail(identity.ErrUnavailable, "par.refused", issuer.StatusError(status))
	}
	reference, _, err := answer.String("request_uri")
	if err != nil || !requestURI(reference) {
		return nil, fail(identity.ErrUnavailable, "par.malformed", errors.New("the answer's request_uri is missing or not one"))
	}
	life, err := strconv.ParseUint(string(answer["expires_in"]), 10, 31)
	if err != nil || life == 0 {
		return nil, fail(identity.ErrUnavailable, "par.malformed", errors.New("the answer's expires_in is missing or no positive number"))
	}
	return url.Values{"client_id": {s.clientID}, "request_uri": {reference}}, nil
}

// requestURI accepts what can be a reference: a URN, as all providers make it, or
// an https address (RFC 9126, section 2.2; RFC 9101, section 5.2).
func requestURI(s string) bool {
	if len(s) > maxRequestURI || !tokenText(s) || strings.Contains(s, "#") {
		return false
	}
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	return u.Scheme == "urn" && u.Opaque != "" || u.Scheme == "https" && u.Host != ""
}
