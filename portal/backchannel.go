package portal

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// maxNotice bounds the body of a provider's notice, in bytes; maxNoticeToken
	// the token in it, as any compact JWT that we take.
	maxNotice      = 64 << 10
	maxNoticeToken = 8 << 10

	// markTTL is for how long a sign-in that began before a logout may still be
	// under way: the attempt, an ID token of the age that is taken, a wait for the
	// person's answer, and clocks that differ.
	markTTL = attemptTTL + 10*time.Minute + moveTTL + 5*attemptSkew
	// markTries bounds how often a mark that other notices keep changing is tried.
	markTries = 20
)

// Reasons of notices, as they stand in the audit log.
const (
	reasonByProvider   = "backchannel"
	reasonNoticeForm   = "backchannel.form"
	reasonNoticeSize   = "backchannel.size"
	reasonNoticeToken  = "backchannel.token"
	reasonNoticeUsed   = "backchannel.used"
	reasonNoticeOther  = "backchannel.subject"
	reasonNoticeBefore = "backchannel.before-sign-out" // a sign-in that had begun when its provider ended all of the account's
)

// backchannel takes a provider's word that it ended sessions (OpenID Connect
// Back-Channel Logout 1.0, section 2.5). No browser comes here: cookies are not
// looked at, no header lets a page read the answer, and one is written per
// request that gets past the limit. Whoever could make a logout token could sign
// people out; whoever could use one twice, again after they came back.
func (p *Portal) backchannel(s identity.Source, n identity.Notified) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !p.notices.allow(p.client(r)) {
			p.tooMany(w, r)
			return
		}
		token, f := readNotice(w, r)
		if f != nil {
			p.refuseNotice(w, r, s, identity.Ended{}, *f)
			return
		}
		e, err := n.Logout(r.Context(), token)
		if err == nil && (e.Token == "" || e.Subject == "" && e.Session == "") {
			err = &identity.Failure{Kind: identity.ErrRefused, Reason: reasonNoticeToken}
		}
		if err != nil {
			_, reason := classify(err)
			p.refuseNotice(w, r, s, identity.Ended{}, failure{page: pageNotice, reason: reason, err: err})
			return
		}
		// From here on it does not matter whether the provider hangs up.
		if f := p.endByProvider(context.WithoutCancel(r.Context()), s.Name(), e); f != nil {
			p.refuseNotice(w, r, s, e, *f)
			return
		}
		// The sessions are gone; saying that they are not, because the record
		// failed, would be wrong. record has logged the failure.
		_, _ = p.record(r, audit.Event{Kind: "sign-out", Source: s.Name(), Subject: e.Subject, Decision: "allowed", Reason: reasonByProvider})
		pageHeaders(w.Header())
		w.WriteHeader(http.StatusOK)
	}
}

// readNotice finds the token in the body of a notice: a form with one
// logout_token, and nothing in the address. Other fields do not matter (section 2.5).
func readNotice(w http.ResponseWriter, r *http.Request) (string, *failure) {
	if r.URL.RawQuery != "" {
		return "", &failure{page: pageNotice, reason: reasonNoticeForm}
	}
	values, e := readBody(w, r, maxNotice)
	switch {
	case e == pageFormSize:
		return "", &failure{page: e, reason: reasonNoticeSize}
	case e == pageMediaType:
		return "", &failure{page: e, reason: reasonNoticeForm}
	case e != nil, len(values["logout_token"]) != 1, values.Get("logout_token") == "":
		return "", &failure{page: pageNotice, reason: reasonNoticeForm}
	case len(values.Get("logout_token")) > maxNoticeToken:
		return "", &failure{page: pageNotice, reason: reasonNoticeSize}
	}
	return values.Get("logout_token"), nil
}

// endByProvider ends what the provider has ended. A token is remembered after it
// was obeyed, not before: when something stops us in between, the provider's next
// try is no replay. To obey twice at the same moment ends nothing more, and of
// two one is told that it came second.
func (p *Portal) endByProvider(ctx context.Context, source string, e identity.Ended) *failure {
	key := labelNotice + "/" + hex.EncodeToString(labelled(labelNotice, source+"\x00"+e.Token))
	if _, err := p.store.Get(ctx, key); err == nil {
		return &failure{page: pageNotice, reason: reasonNoticeUsed}
	}
	if err := p.obey(ctx, source, e); err != nil {
		if errors.Is(err, session.ErrGrant) {
			return &failure{page: pageNotice, reason: reasonNoticeOther, err: err}
		}
		return &failure{page: pageNotice, reason: reasonStore, err: err}
	}
	// Longer than the token is good, by whatever clock.
	err := p.store.CompareAndSwap(ctx, key, nil, []byte{1}, e.Expires.Add(2*attemptSkew))
	if errors.Is(err, store.ErrConflict) {
		return &failure{page: pageNotice, reason: reasonNoticeUsed, err: err}
	}
	if err != nil {
		return &failure{page: pageNotice, reason: reasonStore, err: err}
	}
	return nil
}

// obey ends one session of the provider, or all of an account. What the store
// does not take now the session manager keeps and writes later; the provider hears
// of a failure all the same.
func (p *Portal) obey(ctx context.Context, source string, e identity.Ended) error {
	if e.Session != "" {
		return p.sessions.RevokeProviderSession(ctx, source, e.Session, e.Subject)
	}
	// The mark first: a sign-in that is under way has its session before this, and
	// loses it below, or reads the mark after.
	marked := p.mark(ctx, source, e)
	_, err := p.sessions.RevokeUser(ctx, session.User{Source: source, Subject: e.Subject})
	return errors.Join(marked, err)
}

func markKey(source, subject string) string {
	return labelNoticeMark + "/" + hex.EncodeToString(labelled(labelNoticeMark, source+"\x00"+subject))
}

// mark leaves word of when an account's sessions ended at its provider, by the
// provider's clock. It never goes back: notices may overtake each other.
func (p *Portal) mark(ctx context.Context, source string, e identity.Ended) error {
	key, at := markKey(source, e.Subject), e.Issued.Unix()
	for round := range markTries {
		if err := store.Pause(ctx, round); err != nil {
			return fmt.Errorf("leaving the mark of a provider's logout: %w: %w", store.ErrUnavailable, err)
		}
		old, err := p.store.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			old, err = nil, nil
		}
		if err != nil {
			return fmt.Errorf("leaving the mark of a provider's logout: %w", err)
		}
		if n, err := strconv.ParseInt(string(old), 10, 64); err == nil && n >= at {
			return nil
		}
		err = p.store.CompareAndSwap(ctx, key, old, strconv.AppendInt(nil, at, 10), p.now().Add(markTTL))
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("leaving the mark of a provider's logout: %w", store.ErrUnavailable)
}

// overtaken reports whether the provider ended all sessions of the account after
// it vouched for this identity. It is asked when the session is there already: a
// notice that comes later ends it itself.
func (p *Portal) overtaken(ctx context.Context, s identity.Source, id identity.Identity) (bool, error) {
	if _, ok := s.(identity.Notified); !ok {
		return false, nil
	}
	text, err := p.store.Get(ctx, markKey(id.Source, id.Subject))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for a provider's logout: %w", err)
	}
	at, err := strconv.ParseInt(string(text), 10, 64)
	return err != nil || id.Issued.Unix() <= at, nil // the zero time, which says nothing, is before everything
}

// errOvertaken: between the provider's word for somebody and their session it ended
// all that they had.
var errOvertaken = &identity.Failure{Kind: identity.ErrRefused, Reason: reasonNoticeBefore}

// stillVouched is nil unless that happened.
func (p *Portal) stillVouched(r *http.Request, s identity.Source, id identity.Identity) error {
	over, err := p.overtaken(context.WithoutCancel(r.Context()), s, id)
	if err == nil && over {
		err = errOvertaken
	}
	return err
}

// refuseNotice records a notice that changed nothing, or not for certain, and
// answers in the way of section 2.8.
func (p *Portal) refuseNotice(w http.ResponseWriter, r *http.Request, s identity.Source, e identity.Ended, f failure) {
	decision := "denied"
	if f.reason == reasonStore || errors.Is(f.err, identity.ErrUnavailable) {
		decision = "failed"
	}
	ref, err := p.record(r, audit.Event{Kind: "sign-out", Source: s.Name(), Subject: e.Subject, Decision: decision, Reason: f.reason})
	if err != nil {
		ref = ""
	}
	if decision == "failed" {
		p.log.Error("a provider's sign-out was NOT stored: its sessions may go on until it is", "ref", ref, "source", s.Name(), "reason", f.reason, "error", f.err)
	} else {
		p.log.Warn("a provider's sign-out was not taken", "ref", ref, "source", s.Name(), "reason", f.reason, "error", f.err)
	}
	p.writeProblem(w, f.page, ref)
}
