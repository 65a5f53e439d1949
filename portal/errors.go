package portal

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

// errorPage is one way in which a request can end badly: the only place where
// this package says which status, problem type and words go together. The
// words are fixed: nothing that came with the request is in them.
type errorPage struct {
	status  int
	problem string // the last part of urn:anteroom:problem:
	title   string
	text    []string
}

var (
	pageNotFound = &errorPage{http.StatusNotFound, "not-found", "There is no such page", []string{
		"The address may have been mistyped, or the page may have moved."}}
	pageMethod = &errorPage{http.StatusMethodNotAllowed, "method", "This does not work here", []string{
		"The page was asked for in a way that it does not answer. Nothing was changed."}}
	pageNoSession = &errorPage{http.StatusUnauthorized, "no-session", "You are not signed in", []string{
		"Please sign in to go on. After some time without use you are signed out automatically."}}
	pageNeedsMore = &errorPage{http.StatusUnauthorized, "step-up", "This page needs a stronger sign-in", []string{
		"You are signed in. To open this page, please confirm once more who you are."}}
	pageForbidden = &errorPage{http.StatusForbidden, "forbidden", "This page is not for your role", []string{
		"You are signed in, but your role does not open this page."}}
	pageAmbiguous = &errorPage{http.StatusBadRequest, "ambiguous-path", "This address cannot be used", []string{
		"It could mean more than one page, so it was not passed on. Please start again from the beginning of the application."}}
	pageCrossOrigin = &errorPage{http.StatusForbidden, "cross-origin", "This was sent from another website", []string{
		"To protect you, changes are only accepted from the application's own pages. Nothing was changed."}}
	pageMisdirected = &errorPage{http.StatusMisdirectedRequest, "misdirected", "Please open this page again", []string{
		"Your browser used a connection that was made for another site. Close this window, open the page again, and it should work."}}
	pageUnavailable = &errorPage{http.StatusServiceUnavailable, "unavailable", "This does not work at the moment", []string{
		"To keep records safe, nothing is shown while a part of the system does not answer. Please try again in a minute."}}
	pageTooMany = &errorPage{http.StatusTooManyRequests, "too-many-requests", "Too many sign-ins at once", []string{
		"There were very many sign-ins from your network. Please wait a minute and try again."}}
	pageNoApp = &errorPage{http.StatusBadGateway, "application", "The application does not answer", []string{
		"Nothing is wrong with your sign-in: the application behind this page is not running or does not answer. Please try again in a minute.",
		"If it lasts, tell the people who look after the application and give them the reference number below."}}
	pageNotSignedOut = &errorPage{http.StatusServiceUnavailable, "unavailable", "You are NOT signed out", []string{
		"Signing out could not be stored just now, so you are still signed in.",
		"Please try again in a minute. Do not leave this computer before it has worked."}}
	pageNotEnded = &errorPage{http.StatusServiceUnavailable, "unavailable", "It is NOT certain that this worked", []string{
		"Signing out could not be stored just now. Please look at your devices again in a minute, and try once more.",
		"If somebody else may be using your account, tell your IT help desk now and give them the reference number below."}}
	pageMediaType = &errorPage{http.StatusUnsupportedMediaType, "media-type", "This does not work here", []string{
		"Only forms of this site's own pages are accepted here. Nothing was changed."}}
	pageForm = &errorPage{http.StatusBadRequest, "form", "This does not work here", []string{
		"The form was not filled in by this site's own page. Nothing was changed."}}
	pageNotice = &errorPage{http.StatusBadRequest, "logout-token", "This logout token was not accepted", []string{
		"No session was ended, or it is not certain that it was."}}
	pageFormSize = &errorPage{http.StatusRequestEntityTooLarge, "form", "This does not work here", []string{
		"The form is larger than any of this site's own pages sends. Nothing was changed."}}
)

// The bad ends of a sign-in.
var (
	pageAttempt = &errorPage{http.StatusBadRequest, "sign-in", "This sign-in cannot be finished", []string{
		"It was finished before, took longer than ten minutes, or was started in another window or browser.",
		"Please sign in again. If you see this page once more, your browser may be blocking cookies for this site."}}
	pageDone = &errorPage{http.StatusBadRequest, "sign-in", "You are already signed in", []string{
		"This sign-in was finished before, or took too long. Your session goes on as it was."}}
	pageRefused = &errorPage{http.StatusBadRequest, "sign-in", "You could not be signed in", []string{
		"The answer of the sign-in service was not accepted.",
		"Please try again. If it happens once more, give your help desk the reference number below."}}
	pageDeclined = &errorPage{http.StatusForbidden, "sign-in", "The sign-in was not completed", []string{
		"It was cancelled, or the sign-in service did not let you in. You can try again."}}
	pageNoAnswer = &errorPage{http.StatusServiceUnavailable, "unavailable", "The sign-in service does not answer", []string{
		"This is not your fault. Please try again in a minute."}}
	pageTooLarge = &errorPage{http.StatusForbidden, "sign-in-too-large", "Your account does not fit", []string{
		"Your account has more roles, groups or other details than a browser can keep for a session, so you were not signed in.",
		"Give your help desk the reference number below: this application needs to take over less of your account."}}
	pageLoop = &errorPage{http.StatusBadRequest, "sign-in-loop", "Your browser does not stay signed in", []string{
		"You signed in, but your browser did not keep the two cookies that hold your session, so you would be sent round in a circle.",
		"Please allow cookies for this site, or use another browser, and sign in again."}}
	pageLimit = &errorPage{http.StatusForbidden, "session-limit", "You are signed in elsewhere", []string{
		"Your account is signed in at as many places as it may be. Sign out at one of them first."}}
	pageMove = &errorPage{http.StatusBadRequest, "sign-in", "This sign-in cannot be finished", []string{
		"It was finished before, waited longer than five minutes, or somebody signed in or out in this browser meanwhile.",
		"Nothing was moved. Please sign in again."}}
	pageStepUp = &errorPage{http.StatusForbidden, "step-up", "This page needs a stronger sign-in", []string{
		"The sign-in service did not confirm that you signed in as strongly, or as lately, as this page asks for. Your session goes on as it was.",
		"If you need the page for your work, give your help desk the reference number below."}}
	pageIssuer = &errorPage{http.StatusBadRequest, "sign-in", "This is not a sign-in service of this site", []string{
		"The address that led here names a sign-in service that is not used here. Please open the application and sign in there."}}
	pageNoSources = &errorPage{http.StatusServiceUnavailable, "unavailable", "There is no way to sign in", []string{
		"No sign-in service has been set up for this site."}}
)

// Reason codes of this package for the audit log, besides those of attempts
// and of identity sources.
const (
	reasonQuery      = "callback.query"
	reasonNoState    = "callback.state"
	reasonSourceName = "identity.source"
	reasonPrefix     = "identity.prefix"
	reasonTooLarge   = "session.too-large"
	reasonGrant      = "session.grant"
	reasonStale      = "session.stale"
	reasonIssue      = "session.issue"
	reasonEnded      = "session.ended"
	reasonStore      = "store"
	reasonSeal       = "seal"
	reasonStep       = "source.step"
	reasonUnknown    = "source.unknown"
	reasonLoop       = "loop"
	reasonOrigin     = "cross-origin"
	reasonSignedOut  = "sign-out"
	reasonSwitch     = "switch-user"
	reasonReplaced   = "replaced"
	reasonOwner      = "ended-by-owner"
	reasonNotMe      = "not-me"
	reasonMoved      = "moved"
	reasonLimit      = "session.limit"
	reasonAsked      = "session.limit-asked" // whether to move here
	reasonNotReached = "step-up.not-reached"
	reasonStepLoop   = "step-up.loop"
	reasonIssuer     = "issuer.unknown"
)

// Reasons of sign-ins that wait for an answer and are not honoured.
const (
	reasonMoveMissing    = "move.missing"
	reasonMoveUnreadable = "move.unreadable"
	reasonMoveExpired    = "move.expired"
	reasonMoveHost       = "move.host"
	reasonMoveSource     = "move.source"
	reasonMoveTicket     = "move.ticket"
	reasonMoveUsed       = "move.used"
	reasonMoveKeep       = "move.keep"
)

// classify maps what went wrong at a sign-in to its page and the reason for
// the audit log. An error that nobody thought of counts as an outage: it never
// signs anybody in.
func classify(err error) (*errorPage, string) {
	reason := identity.Reason(err)
	switch {
	case errors.Is(err, session.ErrTooLarge):
		return pageTooLarge, reasonTooLarge
	case errors.Is(err, session.ErrStale):
		return pageUnavailable, reasonStale
	case errors.Is(err, session.ErrNone):
		return pageRefused, reasonEnded // the provider has ended its own session meanwhile
	case errors.Is(err, session.ErrGrant):
		return pageRefused, reasonGrant
	case errors.Is(err, store.ErrConflict):
		return pageAttempt, reasonUsed
	case errors.Is(err, store.ErrUnavailable):
		return pageUnavailable, reasonStore
	case errors.Is(err, identity.ErrDeclined):
		return pageDeclined, reason
	case errors.Is(err, identity.ErrRefused):
		return pageRefused, reason
	case errors.Is(err, identity.ErrUnavailable):
		return pageNoAnswer, reason
	}
	return pageUnavailable, reasonUnknown
}

// refusals maps the gate's kinds to pages.
var refusals = map[string]*errorPage{
	"no-session":     pageNoSession,
	"forbidden":      pageForbidden,
	"ambiguous-path": pageAmbiguous,
	"method":         pageMethod,
	"cross-origin":   pageCrossOrigin,
	"unavailable":    pageUnavailable,
	"misdirected":    pageMisdirected,
	"application":    pageNoApp,
	"step-up":        pageNeedsMore,
	"budget":         pageBudget,
}

// writeProblem answers an API client (RFC 9457).
func (p *Portal) writeProblem(w http.ResponseWriter, e *errorPage, ref string) {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Ref    string `json:"ref,omitempty"`
	}{"urn:anteroom:problem:" + e.problem, http.StatusText(e.status), e.status, e.title + ". " + e.text[0], ref})
	if err != nil { // cannot happen: strings and a number
		body = []byte("{}")
	}
	pageHeaders(w.Header())
	retryLater(w.Header(), e.status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.status)
	w.Write(append(body, '\n'))
}

// retryLater tells programs when to come back (RFC 9110, section 10.2.3).
func retryLater(h http.Header, status int) {
	switch status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "10")
	case http.StatusTooManyRequests:
		h.Set("Retry-After", "60")
	}
}
