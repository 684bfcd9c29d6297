"""What every other package stands on: errors, files, parameters, map stores, boxes, regions, parallel work."""
