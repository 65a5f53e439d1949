package identity

import "errors"

// The three kinds of failure. Every error of a [Source] is exactly one of them.
var (
	// ErrUnavailable: the provider is down, answers nonsense or is
	// misconfigured. Trying again later, or an operator, may help.
	ErrUnavailable = errors.New("sign-in provider unavailable")
	// ErrRefused: an answer failed one of our checks. Nobody is signed in.
	ErrRefused = errors.New("sign-in refused")
	// ErrDeclined: the provider, or the person at the provider, said no.
	ErrDeclined = errors.New("sign-in declined")
)

// Failure is an error of a kind with a reason for the audit log.
//
// Reason is one of the source's fixed codes, such as "idtoken.iss": it never
// holds text from outside, so it may stand in logs and beside a reference
// number on a page. Err is for an operator's log; it holds no secret, no token
// and no text that the provider or the browser chose.
type Failure struct {
	Kind   error
	Reason string
	Err    error
}

// Error gives the kind, the reason and the cause.
func (f *Failure) Error() string {
	s := "identity failure"
	if f.Kind != nil {
		s = f.Kind.Error()
	}
	if f.Reason != "" {
		s += " (" + f.Reason + ")"
	}
	if f.Err != nil {
		s += ": " + f.Err.Error()
	}
	return s
}

// Unwrap gives the kind and the cause to errors.Is and errors.As.
func (f *Failure) Unwrap() []error {
	var all []error
	if f.Kind != nil {
		all = append(all, f.Kind)
	}
	if f.Err != nil {
		all = append(all, f.Err)
	}
	return all
}

// Reason is the fixed code of the first [Failure] in err's tree, "" when there
// is none.
func Reason(err error) string {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Reason
	}
	return ""
}
