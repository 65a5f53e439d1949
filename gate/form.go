package gate

import (
	"net/http"
	"strconv"
	"strings"
)

// form is how a refusal is told: everybody gets it as what they can read.
type form uint8

const (
	formPage      form = iota // a person: a page, or the way to the sign-in
	formProblem               // a program: problem+json (RFC 9457), never a redirect, which a script would follow and not understand
	formGRPC                  // gRPC and gRPC-Web: a status of their own in an answer of 200
	formWebSocket             // a page's WebSocket: a close frame, since a script is told no status of a handshake that failed
)

// formOf chooses the form. What a stranger may not have, such as a status 101, is not given for one header alone.
func (x *exchange) formOf(no refusal) form {
	switch {
	case x.upgrade && x.inside && closeCodes[no.kind] != 0 && x.isOwnPageSocket():
		return formWebSocket
	case grpcType(x.r) != "" && grpcStatus[no.kind] != 0 && no.status != http.StatusTooEarly: // who comes too early has to hear it (RFC 8470)
		return formGRPC
	case x.caller != nil || no.kind == KindToken || IsAPIClient(x.r):
		return formProblem
	}
	return formPage
}

// IsAPIClient reports whether a program asks rather than a person's address bar: Sec-Fetch-Mode other than navigate,
// X-Requested-With, Accept without text/html, a WebSocket upgrade, or an Origin where browsers send none with a page's request.
func IsAPIClient(r *http.Request) bool {
	modes := r.Header["Sec-Fetch-Mode"]
	for _, mode := range modes {
		if mode != "navigate" {
			return true
		}
	}
	if len(r.Header["X-Requested-With"]) > 0 || len(r.Header["Upgrade"]) > 0 && strings.EqualFold(r.Header["Upgrade"][0], "websocket") {
		return true
	}
	if safe := r.Method == http.MethodGet || r.Method == http.MethodHead; safe && len(modes) == 0 && len(r.Header["Origin"]) > 0 {
		return true // a script's, for another origin (Fetch standard, "append a request Origin header")
	}
	for _, accept := range r.Header["Accept"] {
		if strings.Contains(strings.ToLower(accept), "text/html") {
			return false
		}
	}
	return true
}

// grpcStatus is the code of a kind (google.rpc.Code). The kinds that are about the connection have none: their status of HTTP is
// for whoever holds it.
var grpcStatus = map[Kind]int{
	KindNoSession: 16, KindStepUp: 16, KindToken: 16, // UNAUTHENTICATED
	KindForbidden: 7, KindBudget: 7, KindCrossOrigin: 7, // PERMISSION_DENIED
	KindUnavailable:   14, // UNAVAILABLE
	KindAmbiguousPath: 3,  // INVALID_ARGUMENT
}

// grpcType returns the content type of an answer to a call of gRPC, which HTTP/2 carries, or of gRPC-Web; "" for any other
// request. A form or a link of a page cannot have these types, so that nobody's page is turned into one by a header.
func grpcType(r *http.Request) string {
	types := r.Header["Content-Type"]
	if len(types) != 1 || r.Method != http.MethodPost {
		return ""
	}
	for _, mode := range r.Header["Sec-Fetch-Mode"] {
		if mode == "navigate" {
			return ""
		}
	}
	media, _, _ := strings.Cut(types[0], ";")
	media, _, _ = strings.Cut(strings.ToLower(strings.Trim(media, " \t")), "+") // what the messages are written in
	switch {
	case media == "application/grpc" && r.ProtoMajor >= 2:
		return "application/grpc"
	case media == "application/grpc-web":
		return "application/grpc-web+proto"
	case media == "application/grpc-web-text":
		return "application/grpc-web-text+proto"
	}
	return ""
}

// tellGRPC answers with a status and no message: "Trailers-Only" (gRPC over HTTP/2), which gRPC-Web reads from headers, too. The
// text has printable ASCII without "%" only, which needs no encoding.
func (x *exchange) tellGRPC(no refusal, ref string) {
	text := string(no.kind) + ": " + details[no.kind]
	if ref != "" {
		text += " Reference: " + ref
	}
	h := x.answer.Header()
	h.Set("Content-Type", grpcType(x.r))
	h.Set("X-Content-Type-Options", "nosniff")
	h["Grpc-Status"] = []string{strconv.Itoa(grpcStatus[no.kind])}
	h["Grpc-Message"] = []string{text}
	x.answer.ResponseWriter.WriteHeader(http.StatusOK)
}
