package gate

import "encoding/binary"

// switching is how the answer begins that makes a WebSocket of a connection (RFC 6455 section 4.2.2).
const switching = "HTTP/1.1 101 "

// longestHead is what is followed of that answer's head; servers send less.
const longestHead = 1 << 20

// frames follows the bytes that a server sends over a connection that became a WebSocket, and knows one thing: whether a frame
// has just ended, so that a frame of ours can stand there and is not taken for the inside of another one. It keeps nothing of
// what passes. What is no frame by RFC 6455 section 5.2 ends the following for good, as does the server's own close frame, after
// which nothing may be sent (section 5.5.1). The zero frames expects the head of the 101 answer first.
type frames struct {
	stage stage
	have  int      // bytes of the head, or of the frame's header, that have come
	blank int      // bytes of the empty line that ends the head
	head  [14]byte // the frame's header
	left  uint64   // bytes of the frame's payload that are to come
}

type stage uint8

const (
	inAnswer  stage = iota // the head of the 101 answer
	inHeader               // a frame's header; at its first byte, a frame can stand here
	inPayload              // a frame's payload
	inClose                // the payload of a close frame
	lost                   // a close frame was sent, or what is sent are no frames
)

// between reports whether a frame can be sent now. Between the fragments of a message it can, when it is a control frame
// (section 5.4).
func (f *frames) between() bool { return f.stage == inHeader && f.have == 0 }

// see follows bytes that were sent.
func (f *frames) see(b []byte) {
	for len(b) > 0 {
		switch f.stage {
		case inAnswer:
			b = f.seeAnswer(b)
		case inHeader:
			b = f.seeHeader(b)
		case inPayload, inClose:
			n := min(uint64(len(b)), f.left)
			b = b[n:]
			if f.left -= n; f.left == 0 {
				f.next()
			}
		default:
			return
		}
	}
}

// next comes after the last byte of a frame.
func (f *frames) next() {
	if f.stage == inClose {
		f.stage = lost
		return
	}
	f.stage, f.have = inHeader, 0
}

// seeAnswer follows the head of the 101 answer to its empty line, and returns what comes behind it.
func (f *frames) seeAnswer(b []byte) []byte {
	const end = "\r\n\r\n"
	for i, c := range b {
		if f.have < len(switching) && c != switching[f.have] || f.have == longestHead {
			f.stage = lost
			return nil
		}
		f.have++
		switch {
		case c == end[f.blank]:
			f.blank++
		case c == '\r':
			f.blank = 1
		default:
			f.blank = 0
		}
		if f.blank == len(end) {
			f.stage, f.have = inHeader, 0
			return b[i+1:]
		}
	}
	return nil
}

// seeHeader takes bytes of a frame's header and returns what comes behind them.
func (f *frames) seeHeader(b []byte) []byte {
	n := copy(f.head[f.have:f.length()], b)
	f.have += n
	if f.have < f.length() { // the second byte says how long it is
		return b[n:]
	}
	f.judge()
	if f.stage != lost && f.left == 0 {
		f.next()
	}
	return b[n:]
}

// length is how long the header is, as far as that is known.
func (f *frames) length() int {
	if f.have < 2 {
		return 2
	}
	n := 2
	switch f.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&0x80 != 0 { // masked: a server must not, but it says how many bytes follow
		n += 4
	}
	return n
}

// judge reads a whole header.
func (f *frames) judge() {
	switch f.left = uint64(f.head[1] & 0x7f); f.left {
	case 126:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	}
	final, opcode := f.head[0]&0x80 != 0, f.head[0]&0x0f
	control := opcode&0x8 != 0
	switch {
	case f.left>>63 != 0, opcode&0x7 > 2, control && (!final || f.left > 125):
		f.stage = lost
	case opcode == opClose:
		f.stage = inClose
	default:
		f.stage = inPayload
	}
}

const opClose = 0x8

// The status codes of the close frame (section 7.4.1; those from 3000 on are IANA's) and the texts where a session or an
// emergency access ended, which tell a stranger nothing.
const (
	closeGoingAway    = 1001
	closePolicy       = 1008
	closeTryLater     = 1013
	closeUnauthorized = 3000
	closeForbidden    = 3003
	closeText         = "session ended"
	closeGlass        = "emergency access ended"
)

// closeFrame is a whole close frame, unmasked as a server sends it. The reason has at most 123 bytes.
func closeFrame(code uint16, reason string) []byte {
	b := []byte{0x80 | opClose, byte(2 + len(reason)), byte(code >> 8), byte(code)}
	return append(b, reason...)
}
