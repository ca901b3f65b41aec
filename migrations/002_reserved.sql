-- Keeps the number for a change that is on its way.
SELECT 1;
