package oidc

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
)

// tokenRequest sends one token request with our client authentication and gives
// the answer: a strict JSON object, which is not judged further. It is sent once,
// whatever happens on the way; only a provider that wants a nonce in our DPoP
// proof, and so has not looked at the request yet, gets it a second time (RFC 9449,
// section 8).
func (s *Source) tokenRequest(ctx context.Context, p *provider, form url.Values) (jws.Claims, error) {
	status, answer, err := s.post(ctx, p, p.tokenURL, form, s.bound())
	if err != nil {
		return nil, tokenFailure(err)
	}
	code, _, _ := answer.String("error") // of another type it is no code we know
	if status != http.StatusOK || answer == nil || answer["error"] != nil {
		return nil, tokenRefusal(status, code)
	}
	return answer, nil
}

// post sends a form to an endpoint that authenticates us, with a proof of our DPoP
// key if so asked. The object is nil for an answer that has none; one with status 200
// or 201 that has none is an error.
func (s *Source) post(ctx context.Context, p *provider, address string, form url.Values, proven bool) (int, jws.Claims, error) {
	status, answer, again, err := s.postOnce(ctx, p, address, form, proven)
	if again && err == nil {
		status, answer, _, err = s.postOnce(ctx, p, address, form, proven)
	}
	return status, answer, err
}

// postOnce sends it. again says that the provider did not look at it for want of a
// nonce that it gives now.
func (s *Source) postOnce(ctx context.Context, p *provider, address string, form url.Values, proven bool) (status int, object jws.Claims, again bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil)
	if err != nil {
		return 0, nil, false, errors.New("unusable address")
	}
	form = maps.Clone(form)
	if err := s.authenticate(ctx, p, r, form); err != nil {
		return 0, nil, false, err
	}
	nonce := ""
	if proven {
		if nonce, err = s.prove(ctx, r, ""); err != nil {
			return 0, nil, false, err
		}
	}
	text := form.Encode()
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// No GetBody: a body that cannot be read again is not sent again.
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	response, err := s.client.Do(r)
	if err != nil {
		return 0, nil, false, issuer.Cause(err)
	}
	defer response.Body.Close()
	if proven {
		s.nonces.learn(origin(address), response.Header)
	}
	object, err = readAnswer(response)
	code, _, _ := object.String("error")
	again = proven && response.StatusCode == http.StatusBadRequest && code == "use_dpop_nonce" && s.wantsNonce(r, nonce)
	return response.StatusCode, object, again, err
}

// readAnswer reads the strict JSON object of an answer. A refusal need not have one.
func readAnswer(response *http.Response) (jws.Claims, error) {
	success := response.StatusCode == http.StatusOK || response.StatusCode == http.StatusCreated
	if !issuer.IsJSON(response.Header) {
		if success {
			return nil, issuer.ErrType
		}
		return nil, nil
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, issuer.Cause(err)
	}
	object, err := issuer.ParseObject(body)
	if err != nil && !success {
		return nil, nil
	}
	return object, err
}

// tokenRefusal sorts the refusals of the token endpoint. Of their text one code
// is compared and nothing else read.
func tokenRefusal(status int, code string) error {
	cause := issuer.StatusError(status)
	switch {
	case code == "invalid_grant":
		return fail(identity.ErrRefused, "token.invalid_grant", cause)
	case code == "access_denied", code == "interaction_required", code == "login_required", code == "consent_required":
		return fail(identity.ErrRefused, "token.declined", cause)
	case code == "invalid_client", code == "unauthorized_client", status == http.StatusUnauthorized:
		return fail(identity.ErrUnavailable, "token.client", errors.New("the provider does not accept our client authentication"))
	case status >= 500, status == http.StatusTooManyRequests, 300 <= status && status < 400:
		return fail(identity.ErrUnavailable, "token.status", cause)
	case 200 <= status && status < 300 && code == "":
		return fail(identity.ErrRefused, "token.malformed", issuer.ErrNotJSON)
	}
	return fail(identity.ErrRefused, "token.refused", cause)
}

// tokenFailure sorts what kept an answer from being one.
func tokenFailure(err error) error {
	if _, ours := errors.AsType[*identity.Failure](err); ours {
		return err
	}
	for _, known := range []error{issuer.ErrType, issuer.ErrNotJSON, issuer.ErrTooBig} {
		if errors.Is(err, known) {
			return fail(identity.ErrRefused, "token.malformed", known)
		}
	}
	return fail(identity.ErrUnavailable, "token.unreachable", err)
}
