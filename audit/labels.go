package audit

// labelSession keeps the hash that stands for a session in the log apart from every
// other hash of the same id.
const labelSession = "anteroom/audit/session-label/v1"
